"""The stream that all contenders read: zipf users and items, 190 bytes a value, the same for a seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from aiokafka.partitioner import murmur2
from confluent_kafka import Producer
from fastavro import parse_schema, schemaless_writer
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
START_MS = 1_760_000_100_000
"""Event time of the first activity; a multiple of WINDOW_MS."""
SPAN_MS = 3_000_000
"""Event time covered, whatever the number of activities: ten windows."""
WINDOW_MS = 300_000
LATE_SHARE = 0.05
LATE_MS_MAX = 20_000
CHUNK = 50_000
EMBEDDING_SIZE = 64

AVRO_HEADER = b"\0" * 5
"""Magic byte and schema id 0: the bundled schema, without a registry."""

VERB_SHARES = {
    "impression": 0.60,
    "click": 0.14,
    "dwell": 0.10,
    "like": 0.08,
    "comment": 0.02,
    "share": 0.02,
    "save": 0.02,
    "hide": 0.02,
    "visit": 0.0,
}
"""Visits make a feed due; benchmarks of freshness put in as many as they need."""
VERBS = tuple(VERB_SHARES)
DWELL = VERBS.index("dwell")


def zipf(rng: np.random.Generator, n: int, kinds: int, s: float) -> NDArray[np.int32]:
    """n draws of 0..kinds-1 with P(rank) proportional to 1 / (rank + 1)^s."""
    weights = 1.0 / np.arange(1, kinds + 1, dtype=np.float64) ** s
    edges = np.cumsum(weights) / weights.sum()
    return np.minimum(np.searchsorted(edges, rng.random(n)), kinds - 1).astype(np.int32)


def user_id(user: int) -> str:
    """The id of the user of this rank."""
    return f"u-{user:07d}"


def item_id(item: int) -> str:
    """The id of the item of this rank."""
    return f"i-{item:07d}"


def partition_of(key: bytes, partitions: int) -> int:
    """Java's default partitioner."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


@dataclass(frozen=True)
class ActivityStream:
    """`activities` records over `users` users, as columns; values are made on demand."""

    activities: int
    users: int = 200_000
    items: int = 50_000
    partitions: int = 4
    exponent: float = 1.0
    seed: int = 7
    once: bool = False
    """Every user in turn instead of zipf."""
    verb: str | None = None
    """Only this verb instead of VERB_SHARES."""

    @cached_property
    def columns(self) -> dict[str, NDArray[np.int64]]:
        """user, item, verb (index into VERBS), event_ms, dwell_ms, place: int64[activities]."""
        rng = np.random.default_rng(self.seed)
        n = self.activities
        late = np.where(rng.random(n) < LATE_SHARE, rng.integers(0, LATE_MS_MAX, n), 0)
        shares = np.cumsum(list(VERB_SHARES.values()))
        user = np.arange(n) % self.users if self.once else zipf(rng, n, self.users, self.exponent)
        verb = np.minimum(np.searchsorted(shares, rng.random(n)), len(VERBS) - 1)
        return {
            "user": user.astype(np.int64),
            "item": zipf(rng, n, self.items, self.exponent).astype(np.int64),
            "verb": verb if self.verb is None else np.full(n, VERBS.index(self.verb)),
            "event_ms": np.maximum(START_MS + np.arange(n) * SPAN_MS // n - late, START_MS),
            "dwell_ms": rng.integers(300, 60_000, n),
            "place": rng.integers(0, 25, n),
        }

    @cached_property
    def partition(self) -> NDArray[np.int16]:
        """The partition of each activity: int16[activities]."""
        per_user = [partition_of(user_id(u).encode(), self.partitions) for u in range(self.users)]
        return np.array(per_user, np.int16)[self.columns["user"]]

    def first(self, per_partition: int) -> NDArray[np.bool_]:
        """Which activities have an offset below `per_partition` in their partition."""
        chosen = np.zeros(self.activities, np.bool_)
        for partition in range(self.partitions):
            chosen[np.flatnonzero(self.partition == partition)[:per_partition]] = True
        return chosen

    def values(self, kind: str, start: int, stop: int) -> list[bytes]:
        """Values of the activities [start, stop): kind "json" or "avro"."""
        return self._json(start, stop) if kind == "json" else self._avro(start, stop)

    def _rows(self, start: int, stop: int) -> Iterator[tuple[int, ...]]:
        picked = [self.columns[name][start:stop].tolist() for name in self.columns]
        return zip(range(start, stop), *picked, strict=True)

    def _json(self, start: int, stop: int) -> list[bytes]:
        return [
            (
                f'{{"activity_id":"a-{n:010d}","actor":"u-{user:07d}","verb":"{VERBS[verb]}",'
                f'"object":"i-{item:07d}","event_time":{event_ms},'
                + (f'"dwell_ms":{dwell_ms},' if verb == DWELL else "")
                + f'"position":{place},"slate_id":"{_slate(n, place)}"}}'
            ).encode()
            for n, user, item, verb, event_ms, dwell_ms, place in self._rows(start, stop)
        ]

    def _avro(self, start: int, stop: int) -> list[bytes]:
        """Avro by the schema in wire/, with the header."""
        schema = avro_schema("activity")
        empty = {"target": None, "undone_verb": None, "undone_event_time": None}
        found = []
        for n, user, item, verb, event_ms, dwell_ms, place in self._rows(start, stop):
            record = empty | {
                "activity_id": f"a-{n:010d}",
                "actor": f"u-{user:07d}",
                "verb": VERBS[verb],
                "object": f"i-{item:07d}",
                "event_time": event_ms,
                "dwell_ms": dwell_ms if verb == DWELL else None,
                "position": place,
                "slate_id": _slate(n, place),
            }
            out = BytesIO()
            out.write(AVRO_HEADER)
            schemaless_writer(out, schema, record)
            found.append(out.getvalue())
        return found


def _slate(n: int, place: int) -> str:
    return f"for_you:bench:{n // 25:012d}-000000000001-{place:03d}"


def avro_schema(name: str) -> dict[str, object]:
    """The parsed schema wire/schemas/<name>.avsc."""
    parsed: dict[str, object] = parse_schema(
        orjson.loads((ROOT / "wire" / "schemas" / f"{name}.avsc").read_bytes())
    )
    return parsed


def produce_activities(bootstrap: str, topic: str, stream: ActivityStream, kind: str) -> int:
    """Write the stream to an existing topic; record time is event time. Returns the bytes of all values."""
    producer = _bulk_producer(bootstrap)
    total = 0
    users = stream.columns["user"].tolist()
    times = stream.columns["event_ms"].tolist()
    places = stream.partition.tolist()
    for start in range(0, stream.activities, CHUNK):
        stop = min(start + CHUNK, stream.activities)
        for n, value in enumerate(stream.values(kind, start, stop), start):
            total += len(value)
            producer.produce(topic, value, user_id(users[n]), places[n], timestamp=times[n])
        producer.poll(0)
        while len(producer) > 4 * CHUNK:
            producer.poll(0.01)
    _finish(producer)
    return total


def produce_items(
    bootstrap: str, topic: str, stream: ActivityStream, kind: str, newest_ms: int = START_MS
) -> None:
    """Write the items of the stream: author, two topics, an embedding, created in the week to `newest_ms`."""
    schema = avro_schema("item")
    rng = np.random.default_rng(stream.seed + 1)
    embeddings = rng.normal(size=(stream.items, EMBEDDING_SIZE)).astype(np.float32)
    ages_ms = rng.integers(0, 7 * 86_400_000, stream.items).tolist()
    producer = _bulk_producer(bootstrap)
    for item in range(stream.items):
        record = {
            "item_id": item_id(item),
            "author": f"author-{item % max(stream.items // 20, 1):05d}",
            "created_at": newest_ms - ages_ms[item],
            "topics": [f"topic-{item % 97}", f"topic-{item % 89}"],
            "embedding": [round(float(x), 4) for x in embeddings[item]],
            "title": f"Item {item}",
            "kind": None,
        }
        if kind == "json":
            value = orjson.dumps(record)
        else:
            out = BytesIO()
            out.write(AVRO_HEADER)
            schemaless_writer(out, schema, record)
            value = out.getvalue()
        key = item_id(item).encode()
        partition = partition_of(key, stream.partitions)
        producer.produce(topic, value, key, partition, timestamp=record["created_at"])
        if item % 1_000 == 999:
            producer.poll(0)
    _finish(producer)


def _bulk_producer(bootstrap: str) -> Any:
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "log_level": 3,
            "linger.ms": 50,
            "batch.size": 512 << 10,
            "queue.buffering.max.messages": 2_000_000,
            "queue.buffering.max.kbytes": 1 << 20,
        }
    )


def _finish(producer: Any) -> None:
    left = producer.flush(120)
    if left:
        raise RuntimeError(f"{left} records were not acknowledged in 120 s; see the broker's log")
