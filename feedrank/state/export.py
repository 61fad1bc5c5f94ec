"""`state export` and `state import`: rows and item statistics as Parquet, and back, bit for bit."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from feedrank.state.reconciling import Told
from models.item_deltas import decode
from streams.concerns import KafkaSettings
from streams.data_dir import claimed
from streams.durable import POSITION_KEY
from streams.errors import ExitCode, OperatorError
from streams.group import members
from streams.past_records import values_from
from streams.policy_file import policy_text
from streams.settings import Settings
from topologies.digest import TableDigest
from topologies.item_sums import add_deltas
from topologies.replay.shadow import Definition, Shadow, write_atomically
from topologies.row_tables import items_rows, items_table, users_rows, users_table
from topologies.shadow_feeds import on_disk
from topologies.stored_rows import TABLES, DiskRows, StoredRows, Table, TopicRows
from topologies.ticks import tick_of
from wire.names import Namespace

FORMAT = 2
"""1 had item rows without impressions weighted by place."""
META = "meta.json"
ROW_GROUP = 20_000
TO_TABLE: Mapping[Table, Callable[[Mapping[bytes, bytes]], pa.Table]] = {
    "users": users_table,
    "item-rows": items_table,
}
TO_ROWS: Mapping[Table, Callable[[pa.Table], dict[bytes, bytes]]] = {
    "users": users_rows,
    "item-rows": items_rows,
}


@dataclass(slots=True)
class Exported:
    """What lies in a directory: `meta` as in its file, digests by table."""

    meta: dict[str, Any]
    digests: dict[Table, TableDigest] = field(
        default_factory=lambda: {table: TableDigest() for table in TABLES}
    )


def export(settings: Settings, names: Namespace, directory: Path, moving: bool, told: Told) -> Exported:
    """Write a namespace's rows into a new directory. `moving`: also while workers write them: partitions are
    then of different moments, and nobody can import it.

    Raises OperatorError.
    """
    if directory.exists() and any(directory.iterdir()):
        raise OperatorError(f"{directory} is not empty; name a new directory", ExitCode.BAD_INPUT)
    shadow = Shadow.of(settings.worker.data_dir, names)
    alive = [] if on_disk(shadow) else members(settings.kafka, names)
    if alive and not moving:
        raise OperatorError(
            f"workers of {names.name} are alive ({len(alive)}): stop them, or pass --while-running for rows "
            "to look at (each partition at its own moment; such an export cannot be imported)",
            ExitCode.NOT_READY,
        )
    try:
        with _opened(settings, names, shadow) as stored:
            directory.mkdir(parents=True, exist_ok=True)
            found = _write(stored, names, settings, shadow, directory, told, whole=not alive)
    except OSError as error:
        raise OperatorError(
            f"cannot write to {directory} ({error.strerror or error}); free space or name another directory, "
            "delete what is there of it, and export again",
            ExitCode.DATA_DIRECTORY,
        ) from error
    return found


@contextmanager
def _opened(settings: Settings, names: Namespace, shadow: Shadow) -> Iterator[StoredRows]:
    if on_disk(shadow):
        with claimed(shadow.directory):
            yield DiskRows(shadow.directory, shadow.definition().partitions)
    else:
        with TopicRows(settings.kafka, names) as topics:
            yield topics


def _write(
    stored: StoredRows,
    names: Namespace,
    settings: Settings,
    shadow: Shadow,
    directory: Path,
    told: Told,
    whole: bool,
) -> Exported:
    live = isinstance(stored, TopicRows)
    positions: dict[str, list[Any]] = {table: [] for table in TABLES}
    found = Exported({})
    for table in TABLES:
        for partition in range(stored.partitions):
            what = f"{table} partition {partition}"
            rows = stored.newest(table, partition, lambda key: True, lambda d, n, w=what: told(w, d, n))  # type: ignore[misc]
            raw = rows.pop(POSITION_KEY, None)
            position = None if raw is None else orjson.loads(raw)
            if table == "item-rows" and live and whole and position is not None:
                rows = _with_deltas(settings.kafka, names, partition, rows, position)
            positions[table].append(position)
            _write_table(directory / f"{table}-{partition}.parquet", table, rows)
            found.digests[table].add(rows.items())
    found.meta = {
        "format": FORMAT,
        "namespace": names.name,
        "partitions": stored.partitions,
        "whole": whole,
        "policy": shadow.definition().policy if shadow.exists else policy_text(settings.worker.policy),
        "value_format": shadow.definition().value_format if shadow.exists else settings.worker.format,
        "starts": shadow.definition().starts if shadow.exists else dict.fromkeys(range(stored.partitions), 0),
        "source": shadow.definition().source if shadow.exists else "kafka",
        "tick_ms": shadow.definition().tick_ms if shadow.exists else settings.ranking.tick_s * 1_000,
        "positions": positions,
        "digests": {table: str(digest) for table, digest in found.digests.items()},
    }
    text = orjson.dumps(found.meta, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_INDENT_2)
    write_atomically(directory / META, text)  # last: without it the directory is no export
    return found


def _with_deltas(
    kafka: KafkaSettings, names: Namespace, partition: int, rows: dict[bytes, bytes], position: dict[str, Any]
) -> dict[bytes, bytes]:
    """Item rows with what their shard was sent and has not applied yet."""
    values = values_from(kafka, names.item_deltas, partition, int(position["position"]))
    return add_deltas(rows, (decode(value) for value in values))


def _write_table(path: Path, table: Table, rows: Mapping[bytes, bytes]) -> None:
    """Raises OperatorError when what would be read back is not what is there."""
    try:
        made = TO_TABLE[table](rows)
    except ValueError as error:
        raise OperatorError(f"{path.name}: {error}", ExitCode.BAD_INPUT) from error
    pq.write_table(made, path, row_group_size=ROW_GROUP, compression="zstd")
    if TO_ROWS[table](made) != dict(rows):
        raise OperatorError(
            f"{path.name}: rows hold what their fields do not say (a damaged row, a page too many); "
            "`feedrank state verify` finds them",
            ExitCode.BAD_INPUT,
        )


# -- back --------------------------------------------------------------------------------------------------


def read_meta(directory: Path) -> dict[str, Any]:
    """Raises OperatorError for a directory that holds no whole export of this version."""
    try:
        meta = orjson.loads((directory / META).read_bytes())
        if meta["format"] != FORMAT:
            raise ValueError(f"format {meta['format']}, this version reads {FORMAT}")
        if not meta["whole"]:
            raise ValueError("it was made while workers ran: its partitions are of different moments")
        missing = [
            name
            for table in TABLES
            for name in (f"{table}-{p}.parquet" for p in range(meta["partitions"]))
            if not (directory / name).is_file()
        ]
        if missing:
            raise ValueError(f"{', '.join(missing)} missing")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OperatorError(
            f"{directory} holds no export that can be imported ({error}); make one with `feedrank state "
            "export` after stopping the workers",
            ExitCode.BAD_INPUT,
        ) from error
    return dict(meta)


def read_table(directory: Path, table: Table, partition: int) -> dict[bytes, bytes]:
    """Rows of one file. Raises OperatorError for one that is damaged."""
    path = directory / f"{table}-{partition}.parquet"
    try:
        return TO_ROWS[table](pq.read_table(path))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise OperatorError(f"{path} cannot be read: {error}; export again", ExitCode.BAD_INPUT) from error


def definition_of(meta: Mapping[str, Any], names: Namespace) -> Definition:
    """The shadow that an export becomes: as if a replay had ended at its positions."""
    users, items = meta["positions"]["users"], meta["positions"]["item-rows"]
    tick_ms = int(meta["tick_ms"])
    stream_ms = max((one["stream_ms"] for one in users if one), default=0)
    closed = max((one["closed_tick"] for one in items if one), default=0)
    tick = max(tick_of(stream_ms + 1, tick_ms), closed)
    items_ends: dict[int, int] = {}
    for one in items:
        items_ends |= {int(p): offset for p, offset in (one or {}).get("items_next", {}).items()}
    return Definition(
        f"import-{names.name}",
        names.name,
        meta["source"],
        int(meta["partitions"]),
        {int(p): start for p, start in meta["starts"].items()},
        {p: one["position"] if one else int(meta["starts"][str(p)]) for p, one in enumerate(users)},
        meta["policy"],
        tick_ms,
        tick * tick_ms,
        items_ends=items_ends,
        value_format=meta["value_format"],
    )


def discard(directory: Path) -> None:
    """What an import that failed has made."""
    shutil.rmtree(directory, ignore_errors=True)
