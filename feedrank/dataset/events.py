"""A file's items and activities as a replay reads them: what the job would refuse is refused here, too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from feedrank.load.events import ActivityEvent, Event, ItemEvent
from models.columns import ActivityColumns
from models.fingerprint import fp64
from models.item_columns import EMBEDDING_DIM, ItemRecord
from models.verbs import VerbTable
from streams.codec import Decoder, encode_activities
from streams.codec.embedding import quantise
from streams.limits import ITEM_TOPICS_MAX, TITLE_CHARS_MAX
from topologies.past import ItemChange, Past
from wire.names import ACTIVITIES

CHUNK_RECORDS = 20_000


def past_of(events: Iterable[Event], verbs: VerbTable) -> Past:
    """All in one partition, in the order given; the record's timestamp is the event's time."""
    items: list[ItemChange] = []
    acts: list[ActivityEvent] = []
    for event in events:
        if isinstance(event, ItemEvent):
            items.append(change_of(event))
        elif isinstance(event, ActivityEvent):
            acts.append(event)
    counts: Counter[str] = Counter()
    return Past([_columns(acts, verbs, counts)], items, counts=counts)


def joined(parts: Sequence[ActivityColumns], verbs: VerbTable) -> ActivityColumns:
    """Columns one after the other."""
    if not parts:
        return decoded([], 0, verbs, Counter())
    keys = [key for part in parts for key in part.keys]
    rest = (f.name for f in fields(ActivityColumns) if f.name != "keys")
    return ActivityColumns(keys, *(np.concatenate([getattr(part, name) for part in parts]) for name in rest))


def change_of(event: ItemEvent) -> ItemChange:
    """An item as the index takes it."""
    fp = fp64(event.item_id.encode())
    if event.deleted:
        return ItemChange(event.time_ms, fp, None)
    embedding = None
    if event.embedding is not None:
        vector = np.zeros((1, EMBEDDING_DIM), np.float32)
        vector[0, : len(event.embedding)] = event.embedding
        found = quantise(np.where(np.isfinite(vector), vector, 0))[0]
        embedding = found if found.any() else None
    topics = tuple(dict.fromkeys(event.topics))[:ITEM_TOPICS_MAX]
    title = event.title[:TITLE_CHARS_MAX] if event.title else None
    record = ItemRecord(event.item_id, event.author, event.created_ms, topics, embedding, title, event.kind)
    return ItemChange(event.time_ms, fp, record)


def _columns(acts: list[ActivityEvent], verbs: VerbTable, counts: Counter[str]) -> ActivityColumns:
    starts = range(0, len(acts), CHUNK_RECORDS)
    parts = [decoded(acts[at : at + CHUNK_RECORDS], at, verbs, counts) for at in starts]
    return joined([part for part in parts if len(part)], verbs)


def decoded(acts: list[ActivityEvent], start: int, verbs: VerbTable, counts: Counter[str]) -> ActivityColumns:
    """Activities as the job decodes them, with offsets from `start`; refused ones are counted."""
    records: list[dict[str, Any]] = [act.record() for act in acts]
    names = ActivityEvent("", "", "", "", 0).record().keys()
    values = encode_activities({name: [record[name] for record in records] for name in names})
    times = np.array([act.time_ms for act in acts], np.int64)
    offsets = np.arange(start, start + len(acts))
    keys = [act.actor.encode() for act in acts]
    columns, dead = Decoder("avro", verbs, 1).decode(ACTIVITIES, 0, offsets, times, keys, values)
    for letter in dead:
        counts[f"activities refused ({letter.reason})"] += 1
    return columns
