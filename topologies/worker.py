"""One worker put together: shards, item index, emission and all that runs beside them.

The parts know nothing of each other but what they are given here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from mode import Service
from redis.asyncio import Redis

from models.due import DueQueue
from models.followers import Followers
from models.item_index import ItemIndex
from models.policy import Policy
from streams.blame import topics_wrong
from streams.codec import Decoder, ItemDecoder
from streams.feeds import FeedWriter
from streams.health import STARTING, Health
from streams.health_server import HealthServer
from streams.log import logger
from streams.loop_watch import LoopWatch, Progress, Watchdog
from streams.metrics import Metrics
from streams.redis_link import RedisUnavailableError
from streams.registry import Registry
from streams.settings import Settings
from streams.shard import Shard
from streams.shards import Job
from streams.store import ShardStore
from streams.tail import TailReader
from streams.transport import ShardTable, create_app
from topologies.bad_items import RECORDS_PER_SLICE, BadItemsAgain
from topologies.catalogue import Catalogue
from topologies.clock import StreamClock, now_ms
from topologies.delivery import Delivery
from topologies.emission import U64, Emission
from topologies.fallbacks import Fallbacks
from topologies.feed_making import FeedMaker
from topologies.heartbeat import Heartbeat
from topologies.ingest import RECORDS_MIN, ItemIngest, UserIngest
from topologies.item_shard import ItemShard
from topologies.model_watch import ModelWatch
from topologies.observing import WorkerObserver
from topologies.room import Room
from topologies.served import ServedLog
from topologies.settlement import SettleBoard
from topologies.settler import Settler
from topologies.slice_size import SliceSize
from topologies.ticks import TickGate
from topologies.upkeep import Upkeep
from topologies.user_rows import UserRows
from topologies.user_shard import UserShard
from topologies.watches import watches
from wire.names import ACTIVITIES, ITEMS

DAY_MS = 86_400_000
REDIS_RETRY_S = 1.0
TICK_PACE_MS_MAX = 5_000

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Instruments:
    """What a worker tells of itself."""

    metrics: Metrics
    health: Health
    progress: Progress


class Worker(Service):  # type: ignore[misc]
    """Starts and stops what runs beside the shards."""

    def __init__(
        self,
        settings: Settings,
        policy: Policy,
        partitions: int,
        registry: Registry | None,
        told: Instruments,
    ) -> None:
        super().__init__()
        self.settings, self.policy, self.partitions, self.told = settings, policy, partitions, told
        names, metrics = settings.names, told.metrics
        self.clock = StreamClock(now_ms if settings.worker.clock == "wall" else None)
        self.app = create_app(
            names,
            settings.kafka,
            settings.worker,
            settings.checkpoint,
            WorkerObserver(metrics, told.progress, told.health),
        )
        self.app.topics_wrong = partial(topics_wrong, settings.kafka, names)
        self.turns = self.app.site.turns
        self.catalogue = Catalogue(
            ItemIndex(settings.ranking.items_live_max),
            ItemDecoder(settings.worker.format, registry),
            registry,
            partitions,
            self._items_came,
            turns=self.turns,
        )
        kafka, failed = settings.kafka, self.app.fail
        self.items_tail = TailReader(
            kafka, [ITEMS], self.catalogue.items_came, failed, records_max=RECORDS_PER_SLICE, in_blocks=True
        )
        self.features_tail = TailReader(kafka, [names.item_features], self.catalogue.features_came, failed)
        self.users = self._user_table(registry)
        self.items = self._item_table()
        self.maker = FeedMaker(policy, self.catalogue.index, int(policy.hash, 16))
        self.models = ModelWatch(policy, settings.worker.policy_folder, self.maker.use, metrics, self.turns)
        self.models.start()
        self.writer = FeedWriter(settings.redis, names)
        self.served = ServedLog(settings.kafka, names, metrics)
        self.delivery = Delivery(self.writer, self.served, metrics, told.health, self.ingest.shown)
        self.emission = self._emission()
        self.heartbeat = Heartbeat(self.users, self.items, self.catalogue, self.clock, metrics, told.progress)
        self.bad_items = BadItemsAgain(settings.kafka, self.catalogue.refused, self.app.fail, metrics)
        self.heartbeat.read_again = self.bad_items.begin
        self.redis = Redis.from_url(settings.redis.address)
        self.settler = Settler(
            SettleBoard(self.redis, names),
            self.users,
            self.catalogue,
            self.items_tail,
            self.heartbeat,
            self.emission,
            settings.ranking.users_max,
        )
        self.upkeep = Upkeep(self.users, self.emission, policy.feed.stale_after_s * 1_000)
        self.fallbacks = Fallbacks(
            self.catalogue, self.writer, policy.fallbacks, lambda: 0 in self.items.shards
        )
        self.server = HealthServer(told.health, metrics, settings.worker.host, settings.worker.port)
        self.watches = watches(self.app, self.users, self.clock, self.items_tail, told.health)
        self.loop_watch = LoopWatch(metrics, settings.worker.loop_hold_ms_max)
        self.watchdog = Watchdog(told.progress, settings.worker.stall_s)

    # -- the jobs --------------------------------------------------------------------------------------

    def _user_table(self, registry: Registry | None) -> ShardTable[UserShard]:
        settings, names, verbs = self.settings, self.settings.names, self.policy.verbs
        worker, tick_ms = settings.worker, settings.ranking.tick_s * 1_000

        def open_state(partition: int, store: ShardStore) -> UserShard:
            followers = Followers(self.policy.budgets.fanout_followers_max)
            rows = UserRows(worker.arena_rows_max, resident=True, followers=followers)
            return UserShard(names, partition, self.partitions, verbs, self.catalogue.index, tick_ms, rows)

        self.ingest = UserIngest(
            Decoder(worker.format, verbs, self.partitions, registry),
            registry,
            self.items_tail,
            lambda shard, signals: self.emission.signalled(shard, signals),
            self.clock,
            self.told.metrics,
            self.told.health,
            turns=self.turns,
            size=SliceSize(worker.ingest_records_max, RECORDS_MIN, worker.loop_hold_ms_max),
        )
        job = Job(
            "users",
            ACTIVITIES,
            names.users_changelog,
            open_state,
            self.ingest.apply,
            opened=self._learn_time,
            records_now=lambda behind: self.ingest.records_now(bool(self.emission.due.own) and not behind),
        )
        return self.app.shards(job)

    def _item_table(self) -> ShardTable[ItemShard]:
        ranking, names = self.settings.ranking, self.settings.names

        def open_state(partition: int, store: ShardStore) -> ItemShard:
            tick_ms = ranking.tick_s * 1_000
            pace_ms = min(tick_ms, TICK_PACE_MS_MAX)
            gate = TickGate(self.partitions, tick_ms, ranking.tick_grace_ms, pace_ms=pace_ms)
            rows_max = 2 * ranking.items_live_max
            return ItemShard(names, partition, gate, rows_max, resident=True, live=self.catalogue.live)

        job = Job(
            "item-rows",
            names.item_deltas,
            names.item_rows_changelog,
            open_state,
            ItemIngest(self.items_tail, self.told.metrics, self.turns).apply,
            opened=self._wake_items,
            records_now=lambda behind: 1,  # one message may hold all that a checkpoint changed
            behind=lambda: any(shard.checkpoints.behind() for shard in self.users.shards.values()),
        )
        return self.app.shards(job)

    def _emission(self) -> Emission:
        settings, policy = self.settings, self.policy
        per_s = min(settings.ranking.budget_per_s, policy.budgets.feeds_per_s)
        return Emission(
            self.users,
            self.catalogue,
            self.maker,
            self.delivery,
            self.clock,
            self.told.metrics,
            DueQueue(per_s=per_s, burst=per_s),
            settings.ranking.users_max,
            policy.feed.active_days * DAY_MS,
            self.turns,
        )

    async def _learn_time(self, shard: Shard[UserShard]) -> None:
        """Stream time is where the shard stands, also when nothing comes any more."""
        self.clock.advance(shard.state.stream_ms)

    @staticmethod
    async def _wake_items(shard: Any) -> None:
        """Rows that were changed or will expire must be known before the first tick of this owner."""
        for rows in chain(shard.store.scan(b"i"), [list(shard.state.back.rows(b"i"))]):
            shard.state.wake(rows)
            await asyncio.sleep(0)

    def _items_came(self, fps: U64) -> None:
        self.maker.forget(self.catalogue.index.lookup(fps))
        self.emission.items_came(fps)
        self.told.metrics.items.set(len(self.catalogue.index))

    # -- life ------------------------------------------------------------------------------------------

    async def on_start(self) -> None:
        """Listen (unless the runner did), so that a supervisor sees a worker that starts; then read items."""
        try:
            await self.server.start()
        except Exception as error:
            self.app.fail(error)
            return
        log.info(
            "listening", url=f"http://{self.server.host}:{self.server.port}", health="/livez /readyz /metrics"
        )
        self.loop_watch.start()
        self.turns.open_thread()
        self.watchdog.start(asyncio.get_running_loop())
        for work in (
            self.told.progress.beat(),
            self.heartbeat.run(),
            *(watch.run() for watch in self.watches),
            self.catalogue.keep_fresh(),
            self.models.run(),
            Room(self.users, self.items).run(),
            self._emit(),
        ):
            self.add_future(self._guarded(work))

    async def _emit(self) -> None:
        """What needs the item index and Redis, once both are there."""
        self.items_tail.start()
        self.features_tail.start()
        await self.served.start()
        await self.items_tail.caught_up()
        await self.features_tail.caught_up()
        await self._connect()
        self.told.health.ready(STARTING)
        await asyncio.gather(self.emission.run(), self.settler.run(), self.upkeep.run(), self.fallbacks.run())

    async def _connect(self) -> None:
        """Until Redis answers; said once, and in /readyz for as long as it lasts."""
        while True:
            try:
                await self.writer.start()
                return self.delivery.redis_answers()
            except RedisUnavailableError as error:
                self.delivery.redis_waits(error)
                await asyncio.sleep(REDIS_RETRY_S)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """A part that fails ends the worker, with its reason."""
        try:
            await work
        except Exception as error:
            self.app.fail(error)

    async def on_stop(self) -> None:
        self.watchdog.stop()
        self.loop_watch.stop()
        await self.bad_items.stop()
        await self.items_tail.stop()
        await self.features_tail.stop()
        await self.served.stop()
        await self.writer.close()
        await self.redis.aclose()
        await self.server.stop()
        self.turns.close_thread()
