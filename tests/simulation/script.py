"""What comes in: a tiny made-up stream as records, bad ones among them, and what the oracle makes of it."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import orjson
from aiokafka import TopicPartition

from feedrank.load.events import ItemEvent
from tests.integration.test_oracle import as_event, quantised
from tests.oracle.feeds import World
from tests.oracle.made_up import Size, Stream
from tests.oracle.records import EMBEDDING_DIM, Activity, Item
from wire.names import ACTIVITIES, ITEMS
from wire.partitioner import partition_of

NOTHING = (b"", b"{", b"\xff\xfe", b"[]", b'{"activity_id": "x"}', b"null", None)


@dataclass(frozen=True)
class Produced:
    """One record for a topic; `bad`: a dead letter comes of it."""

    tp: TopicPartition
    time_ms: int
    key: bytes | None
    value: bytes | None
    bad: bool = False


@dataclass
class Script:
    """`records`: in the order in which they are produced; `world`: the oracle after all of them."""

    records: list[Produced]
    world: World
    end_ms: int


class _Cheap(Stream):
    """The same kind of stream; drawing numbers one by one took a twentieth of a seed."""

    def _numbers(self, size: int) -> list[int]:
        return self.random.choices(range(-size, size + 1), k=EMBEDDING_DIM)


def write(seed: random.Random, policy_text: str, partitions: int, size: Size) -> Script:
    """From one seed."""
    stream = _Cheap(seed.getrandbits(32), size)
    world, records = World(policy_text, partitions), list[Produced]()
    for event in stream.events:
        if isinstance(event, Item):
            world.put(_stored(event))
            records.append(_record(event, partitions))
        elif isinstance(event, Activity):
            world.act(event)
            records.append(_record(event, partitions))
        if seed.random() < 0.06:
            records.append(_bad(seed, partitions, stream.end_ms))
    return Script(records, world, stream.end_ms)


def _stored(item: Item) -> Item:
    """What is kept of an item that went over the wire."""
    sent = as_event(item)
    assert isinstance(sent, ItemEvent)
    embedding = None if sent.embedding is None else quantised(sent.embedding)
    return replace(item, title=item.title or None, embedding=embedding)


def _record(event: Item | Activity, partitions: int) -> Produced:
    topic, sent = ITEMS if isinstance(event, Item) else ACTIVITIES, as_event(event)
    fields = {name: value for name, value in sent.record().items() if value is not None}
    key = sent.key.encode()
    tp = TopicPartition(topic, partition_of(key, partitions))
    return Produced(tp, sent.time_ms, key, orjson.dumps(fields))


def _bad(seed: random.Random, partitions: int, time_ms: int) -> Produced:
    topic = seed.choice((ACTIVITIES, ACTIVITIES, ITEMS))
    tp = TopicPartition(topic, seed.randrange(partitions))
    value = seed.choice(NOTHING)
    if topic == ITEMS and value is None:
        value = b"?"  # a tombstone of an item that nobody knows is no error
    return Produced(tp, time_ms, b"user-%d" % seed.randrange(9), value, bad=True)
