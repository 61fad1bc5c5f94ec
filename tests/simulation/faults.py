"""What goes wrong in a seed, and when."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tests.simulation.worker import Sizes
from wire.names import ACTIVITIES

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

Fate = Literal["fine", "lost", "answer lost", "late", "hang"]
FATES: dict[str, tuple[Fate, ...]] = {
    "produce": ("lost", "answer lost", "late"),
    "commit": ("lost", "answer lost", "answer lost", "late", "hang"),
    "redis": ("lost", "answer lost"),
}
FAULTS = (
    "kill", "kill", "freeze", "freeze", "cut", "brokers_down", "redis_down", "redis_empty", "redis_restart",
    "move", "stop", "usurp", "compact", "foreign",
)  # fmt: skip


STANDBY_SHARE = 0.5
"""Of runs: all workers keep copies of each other's shards."""


@dataclass(frozen=True)
class Scale:
    """A kind of world: `share` of seeds, and the ranges that their plans are drawn of. `often`: how many of a
    thousand requests of a kind go wrong."""

    share: float
    partitions: tuple[int, ...]
    workers: tuple[int, ...]
    activities: tuple[int, int]
    items: tuple[int, int]
    users: tuple[int, int]
    in_memory: tuple[int, ...]
    often: tuple[int, ...]
    pause_s: tuple[float, ...]
    produce_s: tuple[float, ...]


SCALES = (
    Scale(
        0.9, (1, 1, 1, 1, 2), (1, 1, 1, 2), (2, 6), (2, 3), (1, 3), (1, 2, 40), (0, 0, 80, 300),
        (0.2, 0.5, 1.0), (0.5, 1.0, 2.0),
    ),
    Scale(
        0.09, (1, 1, 2), (1, 2, 3), (4, 16), (3, 6), (1, 4), (2, 3, 40), (0, 0, 50, 250), (0.3, 1.0, 2.5),
        (2.0, 4.0, 6.0),
    ),
    Scale(
        0.01, (1, 2, 3), (1, 2, 3), (10, 60), (4, 14), (2, 8), (3, 5, 40), (0, 0, 20, 100),
        (0.5, 2.0, 5.0), (2.0, 8.0, 15.0),
    ),
)  # fmt: skip
"""Mostly tiny: what goes wrong needs few records, and more seeds find more than more records. Some needs more
of them, or longer."""


@dataclass(frozen=True)
class Plan:
    """One seed's kind of run. `rates`: by kind of request, how many of a thousand go wrong; `kinds`: faults
    that happen at all; `pause_s`: mean time between two."""

    partitions: int
    workers: int
    sizes: Sizes
    activities: int
    items: int
    users: int
    rates: dict[str, int]
    kinds: tuple[str, ...]
    pause_s: float
    produce_s: float
    standby: bool

    @classmethod
    def drawn(cls, draw: random.Random) -> Plan:
        """The seed's first draws."""
        (scale,) = draw.choices(SCALES, [one.share for one in SCALES])
        kinds = tuple(name for name in dict.fromkeys(FAULTS) if draw.random() < 0.5)
        in_memory = draw.choice(scale.in_memory)
        rates = {kind: draw.choice(scale.often) for kind in (*FATES, "damage", "stray")}
        records, ranked = (min(draw.choice((1, 3, 8)), in_memory) for _ in range(2))
        return cls(
            partitions=draw.choice(scale.partitions),
            workers=draw.choice(scale.workers),
            sizes=Sizes(in_memory, records, ranked),
            activities=draw.randint(*scale.activities),
            items=draw.randint(*scale.items),
            users=draw.randint(*scale.users),
            rates=rates,
            kinds=kinds,
            pause_s=draw.choice(scale.pause_s),
            produce_s=draw.choice(scale.produce_s),
            standby=draw.random() < STANDBY_SHARE,
        )


class Faults:
    """Does what the plan says until `over`."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation, self._plan = simulation, simulation.plan
        self._random = simulation.random
        self.over = False
        self.counts: dict[str, int] = {}

    # -- requests --------------------------------------------------------------------------------------

    def _strikes(self, kind: str) -> bool:
        rate = self._plan.rates[kind]
        struck = bool(rate) and not self.over and self._random.random() * 1_000 < rate
        if struck:
            self._count(kind)
        return struck

    def _count(self, kind: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1

    def fate(self, kind: str) -> Fate:
        """Of one request."""
        return self._random.choice(FATES[kind]) if self._strikes(kind) else "fine"

    def damages(self) -> bool:
        """Whether a batch's bytes change on the way."""
        return self._strikes("damage")

    def strays(self) -> bool:
        """Whether a fetch is delivered once more, later."""
        return self._strikes("stray")

    # -- events ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """One fault after the other, until it is over."""
        acts: dict[str, Callable[[], Awaitable[None]]] = {
            name: getattr(self, f"_{name}") for name in self._plan.kinds
        }
        while acts and not self.over:
            await asyncio.sleep(self._random.expovariate(1 / self._plan.pause_s))
            if self.over:
                return
            name = self._random.choice(list(acts))
            self._count(name)
            self._simulation.note(f"fault: {name}")
            await acts[name]()

    def end(self) -> None:
        """Nothing goes wrong from here on; what is broken is mended."""
        self.over = True
        one = self._simulation
        one.network.down_until = one.redis.network.down_until = 0.0
        one.network.cut_until.clear()
        for process in one.loop.processes:
            process.frozen = False

    async def _kill(self) -> None:
        """A process dies between two turns; its disk stays, or not."""
        one = self._simulation
        worker = one.any_worker()
        if worker is not None:
            one.kill(worker, disk_too=self._random.random() < 0.25)

    async def _freeze(self) -> None:
        """A process stands still, maybe past its session, and goes on as if nothing had been."""
        one = self._simulation
        worker = one.any_worker()
        if worker is None or worker.process.frozen:
            return
        process = worker.process
        process.frozen = True
        one.note(f"{worker.name} is frozen")
        one.loop.call_later(self._random.choice((0.2, 2.0, 6.0)), setattr, process, "frozen", False)

    async def _cut(self) -> None:
        """One worker cannot reach the brokers for a while."""
        one = self._simulation
        worker = one.any_worker()
        if worker is not None:
            until = one.loop.time() + self._random.choice((0.5, 3.0, 8.0))
            one.network.cut_until[worker.process] = until

    async def _brokers_down(self) -> None:
        self._simulation.network.down_until = self._simulation.loop.time() + self._random.choice(
            (0.3, 2.0, 6.0)
        )

    async def _redis_down(self) -> None:
        one = self._simulation
        one.redis.network.down_until = one.loop.time() + self._random.choice((0.3, 2.0, 6.0))

    async def _redis_empty(self) -> None:
        self._simulation.redis.empty()

    async def _redis_restart(self) -> None:
        self._simulation.redis.forget_scripts()

    async def _move(self) -> None:
        """The group shares out anew."""
        self._simulation.group.rebalance()

    async def _stop(self) -> None:
        """A worker is told to stop, and started again."""
        one = self._simulation
        worker = one.any_worker()
        if worker is not None and not worker.process.frozen:
            one.stop(worker)

    async def _usurp(self) -> None:
        """Somebody takes a shard's transactional id and does nothing with it."""
        one = self._simulation
        names = sorted(one.broker.transactional_ids)
        if names:
            await one.broker.init_producer(self._random.choice(names))

    async def _compact(self) -> None:
        """The log cleaner runs over a compacted topic."""
        one = self._simulation
        tps = [tp for tp in one.broker.logs if tp.topic in one.compacted]
        log = one.broker.logs[self._random.choice(tps)]
        log.compact(self._random.randint(0, 3), markers_too=self._random.random() < 0.5)

    async def _foreign(self) -> None:
        """Somebody's transaction on activities is aborted, or leaves its marker."""
        one = self._simulation
        tps = [tp for tp in one.broker.logs if tp.topic == ACTIVITIES]
        await one.abort_one(self._random.choice(tps))
