"""CPU per record of decoding (step 1) and of items (step 5), beside one record at a time in Python.

`python -m benchmarks.decode [--profile]`: a line of JSON per figure. The peer decodes the same bytes with
fastavro or orjson, one dict per record, and checks nothing: the least that an ordinary consumer does.
"""

from __future__ import annotations

import cProfile
import io
import json
import pstats
import sys
import time
from collections.abc import Callable
from typing import Any

import fastavro
import numpy as np
import orjson
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from benchmarks.figure import Figure
from models.verbs import Role, Verb, VerbTable
from streams.block import Block, Segment, slices
from streams.codec import Decoder, ItemDecoder, encode_activity, encode_item
from streams.codec.schemas import reader_text
from streams.faust_private.raw import batches_of
from streams.fetch import BLOCK_RECORDS_MIN
from wire.partitioner import partitions_of

BATCH_RECORDS, SLICE_RECORDS, ROUNDS = 4_000, 1_000, 60
ITEMS, ITEM_ROUNDS = 4_000, 15
PARTITIONS = 4
T0_MS = 1_790_000_000_000
GOAL_US = {"avro": 0.8, "json": 1.2}
ITEM_GOAL_US = 15.0
VERBS = VerbTable(
    [
        Verb("impression", Role.EXPOSURE),
        Verb("click", Role.WEAK),
        Verb("like", Role.STRONG),
        Verb("hide", Role.NEGATIVE),
        Verb("undo", Role.UNDO),
    ]
)
SHARES = (0.70, 0.20, 0.08, 0.015, 0.005)


def activities() -> list[dict[str, Any]]:
    """Activities of partition 0: users zipf 1.0, about 100 bytes in Avro and 200 in JSON."""
    rng = np.random.default_rng(7)
    users = [f"user-{k:06d}" for k in range(20_000)]
    here = np.flatnonzero(partitions_of([u.encode() for u in users], PARTITIONS) == 0)
    weights = 1 / np.arange(1, len(here) + 1)
    actors = rng.choice(here, BATCH_RECORDS, p=weights / weights.sum())
    found = []
    for n, (actor, verb) in enumerate(
        zip(actors, rng.choice(len(SHARES), BATCH_RECORDS, p=SHARES), strict=True)
    ):
        one = {
            "activity_id": f"a-{n:012d}",
            "actor": users[actor],
            "verb": VERBS.verbs[verb].name,
            "object": f"item-{rng.integers(100_000)}",
            "event_time": T0_MS + n,
            "position": int(rng.integers(25)),
            "slate_id": f"for_you.live.000001-{n // 25:015d}.0",
        }
        if verb == 1:
            one["dwell_ms"] = int(rng.integers(60_000))
        if verb == 4:
            one |= {"undone_verb": "like", "undone_event_time": T0_MS}
        found.append(one)
    return found


def items() -> list[dict[str, Any]]:
    rng = np.random.default_rng(8)
    return [
        {
            "item_id": f"item-{n}",
            "author": f"author-{rng.integers(5_000)}",
            "created_at": T0_MS - int(rng.integers(10**9)),
            "topics": [f"topic-{t}" for t in rng.integers(0, 60, rng.integers(1, 4)).tolist()],
            "embedding": rng.normal(size=64).astype(np.float32).tolist(),
            "title": f"A title of usual length, number {n}",
        }
        for n in range(ITEMS)
    ]


def best_us(call: Callable[[], object], records: int, rounds: int) -> float:
    """CPU microseconds per record of the fastest round: the others were disturbed."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best / records * 1e6


def peer(value_format: str, kind: Any, values: list[bytes]) -> Callable[[], object]:
    if value_format == "json":
        return lambda: [orjson.loads(value) for value in values]
    schema = fastavro.parse_schema(json.loads(reader_text(kind)))
    return lambda: [fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None) for value in values]


def measure_activities(value_format: Any, documents: list[dict[str, Any]]) -> list[Figure]:
    values = [encode_activity(one, value_format) for one in documents]
    keys: list[bytes | None] = [one["actor"].encode() for one in documents]
    offsets = np.arange(BATCH_RECORDS)
    decoder = Decoder(value_format, VERBS, PARTITIONS)
    plain = best_us(peer(value_format, "activity", values), BATCH_RECORDS, ROUNDS // 4)
    figures = []
    for size in (BATCH_RECORDS, SLICE_RECORDS):
        stamps = np.full(size, T0_MS + BATCH_RECORDS)

        def decode(size: int = size, stamps: Any = stamps) -> None:
            columns, dead = decoder.decode("t", 0, offsets[:size], stamps, keys[:size], values[:size])
            assert len(columns) == size
            assert not dead

        figures.append(
            Figure(
                "decode",
                f"activities {value_format}, {size:,} a batch",
                best_us(decode, size, ROUNDS),
                "us/record",
                "fastavro, a dict each" if value_format == "avro" else "orjson, a dict each",
                plain,
                goal=GOAL_US[value_format] if size == BATCH_RECORDS else None,
                better="lower",
                note=f"{sum(map(len, values)) / len(values):.0f} bytes a value",
            )
        )
    return figures


def fetched(documents: list[dict[str, Any]], value_format: Any) -> list[Segment]:
    """The documents as a record batch of Kafka's."""
    sender = {"producer_id": -1, "producer_epoch": -1, "base_sequence": -1}
    batch = DefaultRecordBatchBuilder(2, 0, is_transactional=0, batch_size=1 << 24, **sender)
    for n, one in enumerate(documents):
        value = encode_activity(one, value_format)
        batch.append(n, T0_MS + BATCH_RECORDS, one["actor"].encode(), value, [])
    data = bytes(batch.build())
    records = MemoryRecords(data).next_batch()
    segment = Segment.of(records, batches_of(data, 1)[0])
    assert segment is not None
    return [segment]


def measure_fetched(value_format: Any, documents: list[dict[str, Any]]) -> Figure:
    """As the worker does it: a block of a fetch, unpacked and decoded."""
    segments = fetched(documents[:BLOCK_RECORDS_MIN], value_format)
    decoder = Decoder(value_format, VERBS, PARTITIONS)

    def decode() -> None:
        [batch] = slices(("t", 0), 0, Block(segments), BLOCK_RECORDS_MIN)
        columns, dead = decoder.decode_batch(batch)
        assert len(columns) == BLOCK_RECORDS_MIN
        assert not dead

    return Figure(
        "decode",
        f"activities {value_format}, {BLOCK_RECORDS_MIN:,} of a fetch, unpacked",
        best_us(decode, BLOCK_RECORDS_MIN, ROUNDS),
        "us/record",
        better="lower",
    )


def measure_bad(documents: list[dict[str, Any]]) -> Figure:
    """One truncated record in every hundred."""
    values = [encode_activity(one) for one in documents]
    for row in range(50, BATCH_RECORDS, 100):
        values[row] = values[row][:-2]
    keys: list[bytes | None] = [one["actor"].encode() for one in documents]
    decoder = Decoder("avro", VERBS, PARTITIONS)
    offsets, stamps = np.arange(BATCH_RECORDS), np.full(BATCH_RECORDS, T0_MS + BATCH_RECORDS)

    def decode() -> None:
        assert len(decoder.decode("t", 0, offsets, stamps, keys, values)[1]) == BATCH_RECORDS // 100

    return Figure(
        "decode",
        "activities avro, 1 % truncated",
        best_us(decode, BATCH_RECORDS, ROUNDS // 4),
        "us/record",
        better="lower",
    )


def measure_items(value_format: Any, documents: list[dict[str, Any]]) -> Figure:
    values: list[bytes | None] = [encode_item(one, value_format) for one in documents]
    keys: list[bytes | None] = [one["item_id"].encode() for one in documents]
    stamps = np.full(ITEMS, T0_MS)
    decoder = ItemDecoder(value_format)

    def decode() -> None:
        changes, dead = decoder.decode("t", 0, range(ITEMS), stamps, keys, values)
        assert len(changes.upserts) == ITEMS
        assert not dead

    return Figure(
        "decode",
        f"items {value_format}, 64 dimensions",
        best_us(decode, ITEMS, ITEM_ROUNDS),
        "us/record",
        "fastavro, a dict each" if value_format == "avro" else "orjson, a dict each",
        best_us(peer(value_format, "item", values), ITEMS, 3),  # type: ignore[arg-type]
        goal=ITEM_GOAL_US,
        better="lower",
    )


def main() -> None:
    documents, catalogue = activities(), items()
    if "--profile" in sys.argv:
        profile = cProfile.Profile()
        profile.enable()
        for value_format in ("avro", "json"):
            measure_activities(value_format, documents)
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        return
    for value_format in ("avro", "json"):
        for figure in measure_activities(value_format, documents):
            print(json.dumps(figure.fields()), flush=True)
        print(json.dumps(measure_fetched(value_format, documents).fields()), flush=True)
    print(json.dumps(measure_bad(documents).fields()), flush=True)
    for value_format in ("avro", "json"):
        print(json.dumps(measure_items(value_format, catalogue).fields()), flush=True)


if __name__ == "__main__":
    main()
