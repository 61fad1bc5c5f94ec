"""Mechanisms of the product, each broken on purpose: the simulator has to notice.

python -m tests.simulation --break producer_fence --seeds 200
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from itertools import count
from typing import Any

import numpy as np
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from streams.durable import Message
from streams.faust_private.producer import WholeBatch
from streams.producing import Ready
from tests.simulation.producer import SimProducer
from tests.simulation.worker import NAMES
from wire.names import DEAD_LETTERS
from wire.scripts import Script

Change = Callable[[Any], Any]


def _producer_fence(real: Any) -> Any:
    """A new owner has a transactional id of its own, so that the broker does not end its predecessor's."""
    number = count()
    return lambda *names: real(*names[:3], f"{names[3]}.{next(number)}")


def _sent_again(real: Any) -> Any:
    """A checkpoint of unknown outcome is sent once more."""

    async def transact(self: Any, ready: Ready, rows: list[WholeBatch]) -> Any:
        again = [(topic, partition, _anew(batch)) for topic, partition, batch in ready.batches]
        rows_again = [_anew(batch) for batch in rows]
        try:
            return await real(self, ready, rows)
        except ProducerFenced:
            raise
        except KafkaError:
            return await real(self, replace(ready, batches=again), rows_again)

    return transact


def _anew(batch: WholeBatch) -> WholeBatch:
    return WholeBatch(batch._body, batch._now_ms)


def _position_of_the_group(real: Any) -> Any:
    """A shard goes on from the group's committed offset."""

    def finish(self: Any, changelog_next: int) -> None:
        real(self, changelog_next)
        shard = self._shard
        told = shard._reader._simulation.group.offsets.get(TopicPartition(shard.topic, shard.partition))
        if told is not None:
            shard.checkpoints.position = told
            shard.state.skip_to(told)

    return finish


class _EarlyMark:
    """A store that writes `changelog_next` with every slice, the first one too."""

    def __init__(self, flusher: Any, store: Any) -> None:
        self._flusher, self._store = flusher, store

    def write(self, rows: Any, changelog_next: int | None = None) -> None:
        self._store.write(rows, self._flusher._through)


def _mark_written_first(real: Any) -> Any:
    def init(self: Any, name: Any, state: Any, store: Any, *rest: Any) -> None:
        real(self, name, state, store, *rest)
        self._store = _EarlyMark(self, store)

    return init


def _nothing_pinned(real: Any) -> Any:
    """Rows leave memory before they are committed."""
    return lambda self: np.zeros(self._keys.top, np.bool_)


def _outside(topic: str) -> Change:
    """Messages for a topic are sent outside of the checkpoint's transaction, before it."""

    def change(real: Any) -> Any:
        async def transact(self: Any, ready: Ready, rows: list[WholeBatch]) -> Any:
            alone = SimProducer(self._producer._simulation)
            assert all(name != topic for name, _, _ in ready.batches)
            for one in (one for one in ready.alone if one.topic == topic):
                await (await _send(alone, one))
            rest = [one for one in ready.alone if one.topic != topic]
            return await real(self, replace(ready, alone=rest), rows)

        return transact

    return change


async def _send(producer: SimProducer, one: Message) -> Any:
    return await producer.send(one.topic, one.value, one.key, one.partition, headers=one.headers)


def _any_version_goes(real: Script) -> Script:
    """The fence lets older feeds pass."""
    text = real.text.replace("if old and old > version then return {-1, old} end", "")
    assert text != real.text
    import hashlib

    return Script(text, hashlib.sha1(text.encode()).hexdigest())


def _no_census(real: Any) -> Any:
    """Nobody asks after a takeover who lacks a feed."""

    async def census(self: Any, shard: Any) -> None: ...

    return census


EVERYTHING = 1 << 60


def _first_watermark(real: Any) -> Any:
    """A tick closes as soon as one sender has passed it, and claims to contain everything."""

    def closable(self: Any, now_ms: int) -> int | None:
        ahead: int = max(self.watermarks) // self.tick_ms
        self.positions = [EVERYTHING] * self.senders
        return ahead if ahead > self.closed else None

    return closable


TEETH: dict[str, tuple[str, Change]] = {
    "producer_fence": ("streams.shards:ShardNames", _producer_fence),
    "never_resend": ("streams.checkpoint:Checkpointer._transact", _sent_again),
    "position_from_the_changelog": ("streams.catch_up:Restore.finish", _position_of_the_group),
    "changelog_next_written_last": ("streams.flush:Flusher.__init__", _mark_written_first),
    "pinned_rows": ("models.arena:Arena.pinned", _nothing_pinned),
    "dead_letters_inside": ("streams.checkpoint:Checkpointer._transact", _outside(DEAD_LETTERS)),
    "deltas_inside": ("streams.checkpoint:Checkpointer._transact", _outside(NAMES.item_deltas)),
    "redis_version_order": ("streams.feeds:FENCE", _any_version_goes),
    "due_after_takeover": ("topologies.upkeep:Upkeep._census", _no_census),
    "watermark_closes_a_tick": ("topologies.ticks:TickGate.closable", _first_watermark),
}
"""What is broken: where, and how."""


@contextmanager
def broken(name: str | None) -> Iterator[None]:
    """The product with this mechanism broken, until the end of the block; None: as it is."""
    if name is None:
        yield
        return
    path, change = TEETH[name]
    module, _, inside = path.partition(":")
    *owners, last = inside.split(".")
    owner: Any = import_module(module)
    for one in owners:
        owner = getattr(owner, one)
    real = getattr(owner, last)
    setattr(owner, last, change(real))
    try:
        yield
    finally:
        setattr(owner, last, real)
