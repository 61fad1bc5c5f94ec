"""An open-loop load of activities that happen now: it keeps its rate whatever the worker does.

    python -m benchmarks.load BOOTSTRAP TOPIC RATE_PER_S SECONDS VISITS_PER_S SEED

Values are Avro, made beforehand; only the event time is put in as they are sent. A RATE_PER_S of 0 sends
SECONDS x 100,000 activities as fast as it can. Prints how many it sent and how late it ever was.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from confluent_kafka import Producer

from benchmarks.stream import START_MS, VERBS, ActivityStream, user_id
from streams.varint import varint

TEMPLATES = 400_000
TICK_S = 0.005
BURST_PER_S = 100_000
DUE_VERBS = ("like", "comment", "share", "save", "hide")


def templates(seed: int, visit_share: float, users: int = 200_000) -> list[tuple[int, str, bytes, bytes]]:
    """(partition, key, value before event_time, value after it) of TEMPLATES activities.

    Only visits make a feed due: the stream's other signals become clicks.
    """
    stream = ActivityStream(TEMPLATES, users=users, seed=seed)
    columns = stream.columns
    columns["event_ms"][:] = START_MS
    for verb in DUE_VERBS:
        columns["verb"][columns["verb"] == VERBS.index(verb)] = VERBS.index("click")
    if visit_share > 0:
        columns["verb"][:: max(round(1 / visit_share), 1)] = VERBS.index("visit")
    marker = varint(START_MS)
    found = []
    values = stream.values("avro", 0, TEMPLATES)
    for value, user, partition in zip(
        values, columns["user"].tolist(), stream.partition.tolist(), strict=True
    ):
        before, middle, after = value.partition(marker)
        assert middle == marker
        found.append((partition, user_id(user), before, after))
    return found


def send(
    producer: Any, topic: str, made: list[tuple[int, str, bytes, bytes]], start: int, count: int
) -> None:
    """Send `count` activities from template `start` on, all happening now."""
    now_ms = time.time_ns() // 1_000_000
    now = varint(now_ms)
    for n in range(start, start + count):
        partition, key, before, after = made[n % TEMPLATES]
        producer.produce(topic, before + now + after, key, partition, timestamp=now_ms)
    producer.poll(0)


def main(arguments: list[str]) -> None:
    """Run it; see the module's docstring."""
    bootstrap, topic = arguments[:2]
    rate, seconds, visits, seed = (float(a) for a in arguments[2:])
    made = templates(int(seed), visits / (rate or BURST_PER_S))
    config = {"bootstrap.servers": bootstrap, "linger.ms": 2, "batch.size": 1 << 18}
    producer = Producer(config | {"queue.buffering.max.messages": 1_000_000})
    print("started", flush=True)
    sent, late_s, total = 0, 0.0, int(seconds * (rate or BURST_PER_S))
    begin = time.monotonic()
    while sent < total:
        due = total if not rate else min(int((time.monotonic() - begin) * rate) + 1, total)
        late_s = max(late_s, (due - sent) / rate if rate else 0.0)
        count = min(due - sent, 5_000)
        send(producer, topic, made, sent, count)
        sent += count
        while not rate and len(producer) > 200_000:
            producer.poll(0.01)
        if sent >= due:
            time.sleep(TICK_S)
    producer.flush(60)
    print(f"sent {sent} late {late_s:.3f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
