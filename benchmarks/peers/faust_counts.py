r"""The peer ordinary Faust: counts per user and verb in a tumbling 5-minute table, as its guide shows.

    python -m benchmarks.peers.faust_counts BOOTSTRAP TOPIC PER_PARTITION STATE_DIR DUMP \
        GROUP VERBS PARTITIONS

Counts the first PER_PARTITION records of each partition. The table is in RocksDB with a changelog.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import faust

WINDOW_S = 300
MARK_EVERY = 1_000


class Activity(faust.Record, serializer="json"):  # type: ignore[misc,call-arg]
    """The fields that are counted by."""

    actor: str
    verb: str
    event_time: int


def build(arguments: list[str]) -> faust.App:
    """The application; it ends the process once every partition has had its share."""
    bootstrap, topic, per_partition, state_dir, file, group, verbs, partitions = arguments
    app = faust.App(
        group,
        broker=f"kafka://{bootstrap}",
        datadir=state_dir,
        store="rocksdb://",
        topic_partitions=int(partitions),
        topic_replication_factor=1,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
    )
    source = app.topic(topic, value_type=Activity)
    table = app.Table("counts", default=int, partitions=int(partitions)).tumbling(WINDOW_S)
    chosen = verbs.split(",")
    left = dict.fromkeys(range(int(partitions)), int(per_partition))

    @app.agent(source)  # type: ignore[untyped-decorator]
    async def count(stream: faust.Stream[Activity]) -> None:
        processed = 0
        async for event in stream.events():
            message = event.message
            if message.offset >= int(per_partition):
                continue
            table[f"{event.value.actor}/{event.value.verb}"] += 1
            processed += 1
            left[message.partition] -= 1
            done = not any(left.values())
            if processed % MARK_EVERY == 0 or done:
                print("mark", processed, time.process_time(), flush=True)
            if done:
                dump(table, Path(file), chosen)
                os._exit(0)  # its own stop may wait for ever for the thread of its consumer

    return app


def dump(table: Any, file: Path, verbs: list[str]) -> None:
    """Lines `user,window start in ms,verb index,count`."""
    with file.open("w") as out:
        for (key, window), number in table.table.items():
            user, _, verb = key.partition("/")
            out.write(f"{int(user[2:])},{int(window[0]) * 1_000},{verbs.index(verb)},{number}\n")


async def run(arguments: list[str]) -> None:
    """Start the application and let it count."""
    loop = asyncio.get_running_loop()
    worker = faust.Worker(build(arguments), loglevel="WARN", redirect_stdouts=False, loop=loop)
    await worker.start()
    await worker.wait_until_stopped()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1:]))
