"""What happens when, from one seed: cuts of batches, interleavings, checkpoints, flushes, evictions, crashes.

    Simulation(stream, policy, Schedule(seed=1, workers=3)).run()

The same seed gives the same run, so a failure can be stepped through.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from models.policy import Policy
from streams.feeds import FeedToWrite
from tests.oracle.made_up import Stream
from tests.oracle.records import Activity, Item
from tests.topologies.in_process import TICK_MS, LocalShard, LocalWorker, Sizes
from tests.topologies.outside import ITEMS, USERS, Board, Heads, Key, LocalStore, Topics
from topologies.settlement import SettleRequest
from topologies.ticks import tick_of

STEPS_MAX = 20_000


@dataclass(frozen=True)
class Schedule:
    """`at_once`: so many partitions of activities are read side by side, the others wait. `crashes`: of
    workers; `losses`: of single shards, with a checkpoint of which nobody knows whether it is committed;
    `moves`: of shards between workers; `bad`: every so many records one is no activity (0: none)."""

    seed: int
    workers: int = 1
    partitions: int = 4
    at_once: int = 4
    crashes: int = 0
    losses: int = 0
    moves: int = 0
    bad: int = 0
    sizes: Sizes = field(default_factory=Sizes)


@dataclass
class Simulation:
    """One stream through one job."""

    stream: Stream
    policy: Policy
    schedule: Schedule
    steps: dict[str, int] = field(default_factory=dict)
    """How often each kind of step was taken."""

    def __post_init__(self) -> None:
        plan = self.schedule
        self.random = random.Random(plan.seed)
        self.topics, self.heads, self.board = Topics(plan.partitions), Heads(), Board()
        self.now_ms, self.produced = 0, 0
        self.left = {"crash": plan.crashes, "lose": plan.losses, "move": plan.moves}
        self.disks: list[dict[Key, LocalStore]] = [{} for _ in range(plan.workers)]
        self.workers = [self._start(n) for n in range(plan.workers)]
        self.owner: dict[Key, int] = {}
        for job in (USERS, ITEMS):
            for partition in range(plan.partitions):
                self._own((job, partition), self.random.randrange(plan.workers))

    def _start(self, number: int) -> LocalWorker:
        sizes, disk = self.schedule.sizes, self.disks[number]
        return LocalWorker(self.topics, self.policy, sizes, self.heads, self.board, disk)

    def _own(self, key: Key, number: int) -> None:
        self.owner[key] = number
        self.workers[number].open(key)

    # -- the run ---------------------------------------------------------------------------------------

    def run(self) -> Simulation:
        """Until every partition has settled, and all is committed."""
        likely: dict[Callable[[], None], int] = {
            self._produce: 8, self._ingest: 30, self._checkpoint: 12, self._flush: 8, self._beat: 12,
            self._tail: 20, self._refresh: 6, self._emit: 4, self._settle: 6,
            self._crash: 1, self._lose: 1, self._move: 1,
        }  # fmt: skip
        while len(self.board.acknowledged) < self.schedule.partitions:
            step = self.random.choices(list(likely), list(likely.values()))[0]
            name = step.__name__.strip("_")
            if self.left.get(name, 1) > 0:
                step()
                self.steps[name] = self.steps.get(name, 0) + 1
                self.left[name] = self.left.get(name, 1 << 30) - 1
            assert sum(self.steps.values()) < STEPS_MAX, f"the job stands still after {self.steps}"
        self._drain()
        return self

    def _drain(self) -> None:
        """Feeds are settled before their rows are committed; a crash in between reads them again."""
        for job in (USERS, ITEMS):
            for partition in range(self.schedule.partitions):
                worker = self.workers[self.owner[job, partition]]
                shard = worker.table(job).shards[partition]
                while shard.lag:
                    worker.ingest((job, partition), min(self.schedule.sizes.users, 60))
                shard.checkpoint()

    def _shard(self) -> tuple[LocalWorker, Key, LocalShard]:
        key = self.random.choice(list(self.owner))
        worker = self.workers[self.owner[key]]
        return worker, key, worker.table(key[0]).shards[key[1]]

    def _worker(self) -> LocalWorker:
        return self.random.choice(self.workers)

    # -- steps -----------------------------------------------------------------------------------------

    def _produce(self) -> None:
        """The next events; after the last, settle is asked for."""
        events = self.stream.events[self.produced :][: self.random.randint(1, 120)]
        for event in events:
            assert isinstance(event, (Item, Activity)), "settled feeds are not defined where items go"
            self.topics.produce(event)
            self.produced += 1
            if self.schedule.bad and self.produced % self.schedule.bad == 0:
                self.random.choice(self.topics.activities).append(None)
        if not events and self.board.request is None:
            ends = {p: len(log) for p, log in enumerate(self.topics.activities)}
            tick = tick_of(self.stream.end_ms, TICK_MS)
            self.board.request = SettleRequest("the only one", tick, tick * TICK_MS, ends)
            self.heads.settled_ms = tick * TICK_MS

    def _ingest(self) -> None:
        worker, key, _ = self._shard()
        if key[0] == ITEMS:
            worker.ingest(key, self.random.randint(1, 6))
            return
        behind = [p for p, log in enumerate(self.topics.activities) if self._behind(p, log)]
        if key[1] in behind[: self.schedule.at_once]:
            few = self.schedule.sizes.users
            worker.ingest(key, self.random.randint(1, min(few, 60)))

    def _behind(self, partition: int, log: list[Activity | None]) -> bool:
        worker = self.workers[self.owner[USERS, partition]]
        return bool(worker.users.shards[partition].next_offset < len(log))

    def _checkpoint(self) -> None:
        self._shard()[2].checkpoint()

    def _flush(self) -> None:
        self._shard()[2].flush(self.random.randint(1, 40))

    def _beat(self) -> None:
        self.now_ms += self.random.randint(1, 200)
        self._worker().heartbeat.beat(self.now_ms)

    def _tail(self) -> None:
        worker = self._worker()
        if self.random.random() < 0.1:
            worker.tail_items(self.random.randint(1, 20))
        worker.tail_features(self.random.randrange(self.schedule.partitions), self.random.randint(1, 200))

    def _refresh(self) -> None:
        self._worker().refresh()

    def _emit(self) -> None:
        self._worker().emit()

    def _settle(self) -> None:
        self._worker().settle(self.now_ms)

    # -- faults ----------------------------------------------------------------------------------------

    def _crash(self) -> None:
        """A process dies; another one takes its place, with its disk, and the group shares out anew."""
        number = self.random.randrange(len(self.workers))
        mine = [key for key, owner in self.owner.items() if owner == number]
        for key in mine:
            self.workers[number].lose(key)
        if self.random.random() < 0.3:
            self.disks[number].clear()
        self.workers[number] = self._start(number)
        for key in mine:
            self._own(key, self.random.randrange(len(self.workers)))

    def _lose(self) -> None:
        """A shard is fenced out: its last checkpoint is committed, or not, and it does not know."""
        worker, key, shard = self._shard()
        if self.random.random() < 0.5:
            shard.checkpoint(acknowledged=False)
        worker.lose(key)
        self._own(key, self.owner[key])

    def _move(self) -> None:
        """A shard goes to any worker; what is applied is committed first, or not."""
        worker, key, shard = self._shard()
        if self.random.random() < 0.8:
            shard.checkpoint()
        worker.lose(key)
        self._own(key, self.random.randrange(len(self.workers)))

    # -- what came of it -------------------------------------------------------------------------------

    def settled(self) -> dict[tuple[str, str], FeedToWrite]:
        """The settled feeds, by user and surface."""
        request = self.board.request
        assert request is not None
        return {key: f for key, f in self.heads.feeds.items() if f.generated_at_ms == request.as_of_ms}
