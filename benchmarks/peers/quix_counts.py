"""The peer Quix Streams: counts per user and verb in 5-minute event-time windows.

    python -m benchmarks.peers.quix_counts BOOTSTRAP TOPIC ACTIVITIES STATE_DIR DUMP GROUP VERBS

One entry of plain state per (user, window), which is its fast way; RocksDB and changelog as by default.
Marks go to stdout; the dump is read back from the changelog topic.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers.changelog import changelog

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from quixstreams import Application, State

WINDOW_MS = 300_000
MARK_EVERY = 25_000


def count_all(app: Application, topic: str, activities: int, codes: dict[str, int]) -> None:
    """Count until `activities` records are done."""
    processed = 0

    def count(
        value: dict[str, Any], key: str, timestamp: int, headers: object, state: State[Any, Any]
    ) -> None:
        nonlocal processed
        window = str(timestamp - timestamp % WINDOW_MS)
        row = state.get(window) or [0] * len(codes)
        row[codes[value["verb"]]] += 1
        state.set(window, row)
        processed += 1
        if processed % MARK_EVERY == 0 or processed == activities:
            print("mark", processed, time.process_time(), flush=True)
        if processed == activities:
            app.stop()

    source = app.topic(topic, key_deserializer="str", value_deserializer="json")
    app.dataframe(source).update(count, stateful=True, metadata=True)
    app.run()


def dump(rows: Iterator[tuple[bytes, bytes | None]], file: Path) -> None:
    """Last value of each key as lines `user,window start,verb index,count`; keys are `"user"|"window"`."""
    latest = {key: value for key, value in rows if value is not None}
    with file.open("w") as out:
        for key, value in latest.items():
            user, _, window = key.rpartition(b"|")
            for verb, number in enumerate(json.loads(value)):
                if number:
                    out.write(f"{int(json.loads(user)[2:])},{int(json.loads(window))},{verb},{number}\n")


def main(arguments: list[str]) -> None:
    """Run it; see the module's docstring."""
    bootstrap, topic, activities, state_dir, file, group, verbs = arguments
    app = Application(
        bootstrap, consumer_group=group, auto_offset_reset="earliest", state_dir=state_dir, loglevel="WARNING"
    )
    count_all(app, topic, int(activities), {verb: i for i, verb in enumerate(verbs.split(","))})
    dump(changelog(bootstrap, f"changelog__{group}--{topic}--default"), Path(file))


if __name__ == "__main__":
    main(sys.argv[1:])
