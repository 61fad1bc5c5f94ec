"""The group's coordinator: who is a member, who owns which partitions, and what members do about it."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiokafka import TopicPartition

from tests.simulation.network import Network

if TYPE_CHECKING:
    from tests.simulation.worker import SimWorker

SESSION_S = 3.0
HEARTBEAT_S = 0.8
REBALANCE_S = 6.0
STICKY = 0.6
GATHER_S = 0.3


@dataclass
class _Member:
    heard_s: float
    generation: int = -1
    joining: asyncio.Future[None] | None = None
    mine: list[TopicPartition] = field(default_factory=list)


class Group:
    """Gives every partition of the sources to one member; both jobs' partitions move on their own."""

    def __init__(self, network: Network, sources: list[TopicPartition], seed: random.Random) -> None:
        self._network, self._sources, self._random = network, sources, seed
        self._loop = network.loop
        self.members: dict[str, _Member] = {}
        self.generation = 0
        self.owner: dict[TopicPartition, str] = {}
        self.offsets: dict[TopicPartition, int] = {}
        self._moving = False

    async def run(self) -> None:
        """Expire members that are silent, for ever."""
        while True:
            await asyncio.sleep(SESSION_S / 6)
            limit_s = self._loop.time() - SESSION_S
            silent = [n for n, m in self.members.items() if m.heard_s < limit_s and m.joining is None]
            for name in silent:
                del self.members[name]
                self._loop.note(f"group: {name} is silent")
            if silent:
                self.rebalance()

    # -- what members ask ------------------------------------------------------------------------------

    async def join(self, name: str) -> tuple[int, list[TopicPartition]]:
        """Returns once the round is over."""
        member = self.members.setdefault(name, _Member(self._loop.time()))
        if member.joining is None:
            member.joining = self._loop.create_future()
        self.rebalance()
        await asyncio.shield(member.joining)
        return member.generation, list(member.mine)

    def heartbeat(self, name: str, generation: int) -> bool:
        """False: join again."""
        member = self.members.get(name)
        if member is None or member.generation != generation:
            return False
        member.heard_s = self._loop.time()
        return not self._moving

    def leave(self, name: str) -> None:
        if self.members.pop(name, None) is not None:
            self.rebalance()

    def commit(self, name: str, generation: int, offsets: dict[TopicPartition, int]) -> bool:
        """Take committed offsets of a member of this generation; False: they are not its to tell."""
        member = self.members.get(name)
        if member is None or member.generation != generation or not set(offsets) <= set(member.mine):
            return False
        self.offsets |= offsets
        return True

    # -- a round ---------------------------------------------------------------------------------------

    def rebalance(self) -> None:
        """Ask all to join again."""
        if not self._moving and self.members:
            self._moving = True
            self._loop.spawn(self._network.servers, self._round())

    async def _round(self) -> None:
        await asyncio.sleep(GATHER_S)
        until_s = self._loop.time() + REBALANCE_S
        while self._loop.time() < until_s and any(m.joining is None for m in self.members.values()):  # noqa: ASYNC110
            await asyncio.sleep(GATHER_S)
        for name in [n for n, m in self.members.items() if m.joining is None]:
            del self.members[name]
            self._loop.note(f"group: {name} did not join in time")
        self.generation += 1
        self._share_out()
        self._moving = False
        for member in self.members.values():
            joining, member.joining = member.joining, None
            member.heard_s, member.generation = self._loop.time(), self.generation
            if joining is not None and not joining.done():
                joining.set_result(None)

    def _share_out(self) -> None:
        names = sorted(self.members)
        for member in self.members.values():
            member.mine = []
        for tp in self._sources if names else []:
            before = self.owner.get(tp)
            stays = before in self.members and self._random.random() < STICKY
            owner = before if stays and before is not None else self._random.choice(names)
            self.owner[tp] = owner
            self.members[owner].mine.append(tp)


async def take_part(group: Group, worker: SimWorker) -> None:
    """A member's life (streams.faust_private: consumer, tables): joins, heartbeats, revocations, for ever."""
    network = worker.simulation.network
    while True:
        worker.generation, mine = await network.ask(group.join, worker.name)
        worker.assigned(mine)
        while await network.ask(group.heartbeat, worker.name, worker.generation):  # noqa: ASYNC110
            await asyncio.sleep(HEARTBEAT_S)
        await worker.revoked()
