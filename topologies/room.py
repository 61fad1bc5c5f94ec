"""Room for new users, items and seen pages (2): memory is there before the slice that needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from numpy.typing import NDArray

from streams.log import logger
from streams.memory import populate
from streams.shard import Shard
from streams.transport import ShardTable
from topologies.item_shard import ItemShard
from topologies.user_shard import UserShard

AHEAD_ROWS = 2_048
"""Of each array beyond what is used: 4 MB a shard. Seldom do so many new users come between two looks."""
LOOK_S = 0.1

Reserved = list[tuple[NDArray[Any], int]]
"""See Arena.reserved."""

log = logger(__name__)


@dataclass(slots=True)
class Room:
    """Keeps memory behind AHEAD_ROWS more than is used of each array that the shards reserved."""

    users: ShardTable[UserShard]
    items: ShardTable[ItemShard]
    _there: WeakKeyDictionary[Shard[Any], list[int]] = field(default_factory=WeakKeyDictionary)

    async def run(self) -> None:
        """Look every LOOK_S, for ever; ends where the system does not know how."""
        while True:
            if not await asyncio.to_thread(self.make, [*self._reserved()]):
                return log.debug("rows get memory when they are written: no MADV_POPULATE_WRITE here")
            await asyncio.sleep(LOOK_S)

    def _reserved(self) -> Iterator[tuple[Shard[Any], Reserved]]:
        for users in self.users.shards.values():
            yield users, users.state.rows.reserved()
        for items in self.items.shards.values():
            yield items, items.state.arena.reserved()

    def make(self, shards: Iterable[tuple[Shard[Any], Reserved]]) -> bool:
        """Blocks while the kernel works. False where it does not know how."""
        for shard, reserved in shards:
            there = self._there.setdefault(shard, [0] * len(reserved))
            for number, (array, used) in enumerate(reserved):
                wanted, enough = (min(used + ahead, len(array)) for ahead in (AHEAD_ROWS, AHEAD_ROWS // 2))
                if there[number] < enough:
                    if not populate(array, there[number], wanted):
                        return False
                    there[number] = wanted
        return True
