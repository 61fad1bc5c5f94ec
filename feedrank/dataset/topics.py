"""The topics of a namespace as a replay reads them: items, activities, the served log (topic or a file)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from confluent_kafka import Message

from feedrank.dataset.events import joined
from feedrank.load.events import opened
from models.columns import ActivityColumns
from models.fingerprint import fp64, fp64s
from models.verbs import VerbTable
from streams.codec import BundledSchemas, Decoder, ItemDecoder, Schemas
from streams.concerns import KafkaSettings
from streams.past_records import PastRecords
from streams.registry import BlockingSchemas, Registry
from streams.settings import Settings
from topologies.item_shard import MARKER_KEY
from topologies.past import ItemChange, Past
from wire.names import ACTIVITIES, ITEMS
from wire.partitioner import partition_of

CHUNK_RECORDS = 5_000
CHUNK_ITEMS = 1_000


def past_of(settings: Settings, verbs: VerbTable, partitions: int, served_file: Path | None = None) -> Past:
    """All that lies on the topics now. Raises OperatorError where one cannot be read."""
    past = log_of(settings, verbs, partitions)
    if served_file is None:
        with PastRecords(settings.kafka, settings.names.served) as log:
            for record in log.records():
                past.take(_bytes(record.value()) or b"", record.partition() or 0)
    else:
        with opened(served_file) as lines:
            for _, line in lines:
                past.take(line.encode(errors="surrogateescape"), 0)
        past.served = [replace(one, partition=partition_of(one.user, partitions)) for one in past.served]
    return past


def log_of(settings: Settings, verbs: VerbTable, partitions: int) -> Past:
    """Activities and items, without the served log. Raises OperatorError where one cannot be read."""
    counts: Counter[str] = Counter()
    schemas = _schemas(settings.kafka)
    items = _items(settings, schemas, counts)
    return Past(_activities(settings, schemas, verbs, partitions, counts), items, counts=counts)


def add_coordinates(past: Past, settings: Settings, users: Collection[bytes], since_ms: int) -> None:
    """What the served log has of these users' feeds, and of ticks, since then. Raises OperatorError where it
    cannot be read."""
    with PastRecords(settings.kafka, settings.names.served) as log:
        for record in log.records(since_ms):
            key = _bytes(record.key())
            if key == MARKER_KEY or key in users:
                past.take(_bytes(record.value()) or b"", record.partition() or 0)


def items_of(settings: Settings) -> list[ItemChange]:
    """Items alone, by time. Raises OperatorError where they cannot be read."""
    return _items(settings, _schemas(settings.kafka), Counter())


def _schemas(kafka: KafkaSettings) -> Schemas:
    if not kafka.schema_registry_url:
        return BundledSchemas()
    auth = kafka.schema_registry_auth
    return BlockingSchemas(Registry(kafka.schema_registry_url, auth.get_secret_value() if auth else None))


def _activities(
    settings: Settings, schemas: Schemas, verbs: VerbTable, partitions: int, counts: Counter[str]
) -> list[ActivityColumns]:
    decoder = Decoder(settings.worker.format, verbs, partitions, schemas)
    held: defaultdict[int, list[Message]] = defaultdict(list)
    parts: list[list[ActivityColumns]] = [[] for _ in range(partitions)]

    def decode(partition: int) -> None:
        offsets, times, keys, values = _unpacked(held.pop(partition))
        columns, dead = decoder.decode(ACTIVITIES, partition, offsets, times, keys, values)
        for letter in dead:
            counts[f"activities refused ({letter.reason})"] += 1
        if len(columns):
            parts[partition].append(columns)

    with PastRecords(settings.kafka, ACTIVITIES) as log:
        for record in log.records():
            partition = record.partition() or 0
            held[partition].append(record)
            if len(held[partition]) == CHUNK_RECORDS:
                decode(partition)
    for partition in list(held):
        decode(partition)
    return [joined(some, verbs) for some in parts]


def _unpacked(
    records: list[Message],
) -> tuple[list[int], list[int], list[bytes | None], list[bytes | None]]:
    offsets = [record.offset() or 0 for record in records]
    times = [record.timestamp()[1] for record in records]
    return offsets, times, [_bytes(r.key()) for r in records], [_bytes(r.value()) for r in records]


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _items(settings: Settings, schemas: Schemas, counts: Counter[str]) -> list[ItemChange]:
    """By time. A chunk ends before an id comes again, so that every version of an item is there."""
    decoder = ItemDecoder(settings.worker.format, schemas)
    held: defaultdict[int, dict[bytes | None, Message]] = defaultdict(dict)
    found: list[ItemChange] = []
    with PastRecords(settings.kafka, ITEMS) as log:
        for record in log.records():
            partition, key = record.partition() or 0, _bytes(record.key())
            if key in held[partition] or len(held[partition]) == CHUNK_ITEMS:
                found += _changes(decoder, partition, list(held.pop(partition).values()), counts)
            held[partition][key] = record
    for partition, some in held.items():
        found += _changes(decoder, partition, list(some.values()), counts)
    found.sort(key=lambda change: change.time_ms)
    return found


def _changes(
    decoder: ItemDecoder, partition: int, records: list[Message], counts: Counter[str]
) -> Iterator[ItemChange]:
    offsets, times, keys, values = _unpacked(records)
    changes, dead = decoder.decode(ITEMS, partition, offsets, times, keys, values)
    for letter in dead:
        counts[f"items refused ({letter.reason})"] += 1
    known = fp64s(key or b"" for key in keys).tolist()
    at = dict(zip(known, zip(times, offsets, strict=True), strict=True))
    last = max(times), offsets[-1]
    for record in changes.upserts:
        fp = fp64(record.item_id.encode())
        time_ms, offset = at.get(fp, last)
        yield ItemChange(time_ms, fp, record, partition, offset)
    for fp in np.asarray(changes.removed).tolist():
        time_ms, offset = at.get(fp, last)
        yield ItemChange(time_ms, fp, None, partition, offset)
