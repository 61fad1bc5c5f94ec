"""`state import`: an export becomes a shadow on disk, as if a replay had ended there, then a namespace."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from feedrank.state.export import definition_of, discard, read_meta, read_table
from feedrank.state.reconciling import Told
from streams.durable import POSITION_KEY
from streams.errors import ExitCode, OperatorError
from streams.group import demand_stopped
from streams.settings import Settings
from streams.store import ShardStore
from topologies.digest import TableDigest
from topologies.replay.guard import demand_shadow
from topologies.replay.kafka_log import KafkaLog, find_range
from topologies.replay.pool import FETCH_RECORDS, open_steps
from topologies.replay.seed import Seeder
from topologies.replay.shadow import Definition, Shadow
from topologies.replay.spool import Spool
from topologies.row_format import ITEM_ROWS
from topologies.stored_rows import TABLES, Table
from topologies.user_shard import ROW_FORMAT as USER_FORMAT
from wire.names import ACTIVITIES, Namespace


@dataclass(frozen=True, slots=True)
class Import:
    """An export on its way into `names`."""

    settings: Settings
    names: Namespace
    directory: Path
    told: Told

    def carry_out(self) -> Shadow:
        """Rows on disk, checked, and then in the namespace's topics. Raises OperatorError; nothing is left
        behind of an import that failed before its rows were whole on disk."""
        meta = read_meta(self.directory)
        self._demand(meta)
        one = definition_of(meta, self.names)
        shadow = Shadow.of(self.settings.worker.data_dir, self.names)
        shadow.define(one)
        try:
            self._stores(shadow, one, meta)
            self._items(shadow, one)
        except BaseException:
            discard(shadow.directory)
            raise
        Seeder(self.settings.kafka, shadow, one, lambda n: self.told("records sent", n, n)).seed()
        return shadow

    def _demand(self, meta: Mapping[str, Any]) -> None:
        if meta["source"] != "kafka":
            raise OperatorError(
                f"{self.directory} was made of files: its positions are no offsets of the topics. Replay the "
                "files into a namespace, or load them onto the topics",
                ExitCode.BAD_INPUT,
            )
        demand_shadow(self.settings, self.names, topics=True, feeds=True)
        demand_stopped(self.settings.kafka, self.names, "rows are not imported")
        partitions = len(find_range(self.settings.kafka, None, None).starts)
        if partitions != meta["partitions"]:
            raise OperatorError(
                f"{self.directory} is of {meta['partitions']} partitions and {ACTIVITIES} has {partitions}: "
                "users would be looked for elsewhere. Replay into a new namespace instead",
                ExitCode.TOPICS_WRONG,
            )

    def _stores(self, shadow: Shadow, one: Definition, meta: Mapping[str, Any]) -> None:
        for table in TABLES:
            found = TableDigest()
            for partition in range(one.partitions):
                self.told(f"{table} to disk, partition", partition, one.partitions)
                rows = read_table(self.directory, table, partition)
                found.add(rows.items())
                position = meta["positions"][table][partition] or _nothing_yet(table, one, partition)
                path = shadow.users(partition) if table == "users" else shadow.item_rows(partition)
                store = ShardStore(path)
                try:
                    store.write_whole([*rows.items(), (POSITION_KEY, orjson.dumps(position))])
                finally:
                    store.close()
            if str(found) != meta["digests"][table]:
                raise OperatorError(
                    f"{self.directory}: rows of {table} are not those that were exported (their digest is "
                    "another); copy the directory again",
                    ExitCode.BAD_INPUT,
                )

    def _items(self, shadow: Shadow, one: Definition) -> None:
        """Items as the topic has them, and statistics of the tick that the rows stand at."""
        ends = find_range(self.settings.kafka, None, None).items_ends
        log = KafkaLog(self.settings.kafka, ends, FETCH_RECORDS)

        async def work() -> None:
            await Spool(shadow.spool).keep_items(log.items())
            steps = open_steps(shadow.directory, self.settings)
            for partition in range(one.partitions):
                await steps.features(partition, one.as_of_ms, lambda count: True)

        asyncio.run(work())


def _nothing_yet(table: Table, one: Definition, partition: int) -> dict[str, Any]:
    """The position record of a shard that never committed anything."""
    if table == "users":
        none = dict.fromkeys(("applied", "duplicates", "withdrawn", "dead", "watermark_ms", "stream_ms"), 0)
        return none | {"position": one.starts[partition], "epoch": 0, "row_format": USER_FORMAT}
    return {
        "position": 0,
        "epoch": 0,
        "row_format": ITEM_ROWS,
        "tick_ms": one.tick_ms,
        "watermarks_ms": [0] * one.partitions,
        "positions": [0] * one.partitions,
        "closed_tick": 0,
        "items_next": {},
    }
