"""Users of a shadow as its feeds were made of them (2, 5): rows and item statistics on disk, read again."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import dataclass, field

from models.context import UserBatch
from models.item_index import ItemIndex
from models.policy import Policy
from streams.settings import Settings
from streams.store import ShardStore
from topologies.feed_making import FeedMaker
from topologies.replay.pool import open_steps
from topologies.replay.shadow import Shadow
from topologies.replay.shard import LocalShard
from topologies.replay.steps import Steps
from wire.names import ACTIVITIES
from wire.partitioner import partition_of


@dataclass(slots=True)
class ShadowUsers:
    """Of a finished replay in `shadow`. Raises OperatorError where its directory is damaged or held."""

    shadow: Shadow
    settings: Settings
    as_of_ms: int = field(init=False)
    policy: Policy = field(init=False)
    index: ItemIndex = field(init=False)
    _steps: Steps = field(init=False)

    def __post_init__(self) -> None:
        self._steps = open_steps(self.shadow.directory, self.settings)
        self.policy = self._steps.policy
        self.as_of_ms = self._steps.definition.as_of_ms
        self.index = asyncio.run(self._steps.settled_catalogue(self.as_of_ms)).index

    def batch(self, user: bytes) -> UserBatch | None:
        """The user's rows; None: there are none."""
        partition = partition_of(user, self._steps.definition.partitions)
        with closing(ShardStore(self.shadow.users(partition))) as store:
            state = self._steps.open_users(partition, store, self.index)
            shard = LocalShard(ACTIVITIES, partition, state, store, lambda messages: {})
            shard.restore()
            if store.get(b"u" + user) is None:
                return None
            read: dict[bytes, bytes | None] = {}
            while wanted := state.rows.make_resident([user], read):
                read |= zip(wanted, store.get_many(wanted), strict=True)
            found = FeedMaker(self.policy, self.index, 0).batch([(state, [user])])
        return None if found is None else found.users
