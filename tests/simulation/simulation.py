"""One seed from its beginning to its verdict."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

from aiokafka import TopicPartition

from models.policy import Policy, parse_policy
from tests.oracle.made_up import Size
from tests.simulation import checks
from tests.simulation.broker import Broker
from tests.simulation.disk import Disk
from tests.simulation.faults import Faults, Plan
from tests.simulation.group import Group
from tests.simulation.log import ABORT, packed
from tests.simulation.loop import PROCESS, SimLoop
from tests.simulation.network import Network
from tests.simulation.patches import Patches
from tests.simulation.redis_server import RedisServer, SimRedis, SimRedisServer
from tests.simulation.script import Produced, write
from tests.simulation.worker import NAMES, TICK_S, SimWorker
from topologies.settlement import SettleBoard, SettleRefused, SettleRequest
from topologies.ticks import tick_of
from wire.names import ACTIVITIES, DEAD_LETTERS, ITEMS

RESTART_S = 1.0
STOP_S = 5.0
SETTLE_S = 40.0
POLL_S = 0.3
SETTLES_MAX = 20
FOREIGN = 999
WHOLE_EVERY = 16
"""One seed in so many ranks by the default policy and has real RocksDBs; the others a part of it, and a model
of them: both together are a third of a seed's time."""
WEIGHTS_KEPT = 4
SOURCES_KEPT = ("in_network", "trending", "explore")
RULES_KEPT = '["own", "future", "seen", "blocked"]'


class Wrong(AssertionError):  # noqa: N818
    """What must not be, is."""


@dataclass
class Verdict:
    """`wrong`: what did not hold, empty when all did. `trace`: equal for equal runs."""

    seed: int
    wrong: list[str]
    trace: int
    turns: int
    seconds: float
    faults: dict[str, int] = field(default_factory=dict)


@cache
def policy_text() -> str:
    return files("models").joinpath("default_policy.toml").read_text()


@cache
def small_policy_text() -> str:
    """The same with a few of its features, sources and rules: ranking is a fifth of a seed, and no fault hits
    a feature. A quarter of that."""
    kept, section = list[str](), ""
    for line in policy_text().splitlines():
        if line.startswith("["):
            section, weights = line, 0
        elif section.startswith("[lift.") and "=" in line:
            weights += 1
            if weights > WEIGHTS_KEPT:
                continue
        elif section == "[candidates.sources]" and "=" in line and line.split()[0] not in SOURCES_KEPT:
            continue
        kept.append(f"rules = {RULES_KEPT}" if line.startswith("rules = ") else line)
    return "\n".join(kept)


@cache
def _policy(text: str) -> Policy:
    return parse_policy(text)


class Simulation:
    """Everything of one seed. `directory`: for RocksDB; `redis`: a running server; `rocksdb`: real ones, or a
    model of them, None: as the seed has it."""

    def __init__(
        self,
        seed: int,
        directory: Path,
        redis: RedisServer,
        tell: Callable[[str], None],
        rocksdb: bool | None = None,
    ) -> None:
        self.seed, self._tell = seed, tell
        self.random = random.Random(seed)
        self.plan = Plan.drawn(self.random)
        plan, whole = self.plan, seed % WHOLE_EVERY == 0
        text = policy_text() if whole else small_policy_text()
        self.policy = _policy(text)
        size = Size(plan.activities, plan.items, plan.users, changing=False, quiet=1)
        self.script = write(self.random, text, plan.partitions, size)
        self.loop = SimLoop(self.random)
        PROCESS.set(self.loop.world)
        self.network = Network(self.loop, "brokers")
        self.compacted = (NAMES.users_changelog, NAMES.item_rows_changelog, NAMES.item_features)
        topics = (ACTIVITIES, ITEMS, DEAD_LETTERS, NAMES.item_deltas, NAMES.served, *self.compacted)
        self.broker = Broker(self.network, dict.fromkeys(topics, plan.partitions))
        sources = [
            TopicPartition(t, p) for t in (ACTIVITIES, NAMES.item_deltas) for p in range(plan.partitions)
        ]
        self.group = Group(self.network, sources, self.random)
        self.faults = Faults(self)
        self.redis = SimRedisServer(self, redis)
        self.disk = Disk(directory, self.random, real=whole if rocksdb is None else rocksdb)
        self.patches = Patches(self)
        self.workers: dict[str, SimWorker] = {}
        self.wrong: list[str] = []
        self.closing = False
        self.request: SettleRequest | None = None
        self.bad: dict[tuple[str, int, int], bytes | None] = {}

    # -- what the parts tell ---------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Part of the trace."""
        self.loop.note(text)
        self._tell(f"{self.loop.time():9.3f} {text}")

    def demand(self, holds: bool, what: str) -> None:
        """What must hold at every moment."""
        if not holds:
            self.note(f"WRONG: {what}")
            self.wrong.append(what)

    def broken(self, error: BaseException | None) -> None:
        """A worker ended by a defect."""
        self.wrong.append(f"a worker ended by a defect: {error!r}")

    # -- workers ---------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """A process with this name, and the directory of this name."""
        if self.closing:
            return
        process = self.loop.process(name)

        def begin() -> SimWorker:
            return SimWorker(self, name, self.disk.path, process)

        self.note(f"{name} starts")
        self.workers[name] = process.context.copy().run(begin)
        self.loop.spawn(process, self.workers[name].run())

    def any_worker(self) -> SimWorker | None:
        """One that is there."""
        return self.workers[self.random.choice(sorted(self.workers))] if self.workers else None

    def kill(self, worker: SimWorker, disk_too: bool = False) -> None:
        """Gone between two turns; started again after a while."""
        self.note(f"{worker.name} is killed" + (", its disk too" if disk_too else ""))
        self.workers.pop(worker.name)
        self.loop.kill(worker.process)
        if disk_too:
            self.disk.lose(self.disk.path / worker.name)
        self._again(worker.name)

    def stop(self, worker: SimWorker) -> None:
        """SIGTERM."""
        self.note(f"{worker.name} stops")
        self.workers.pop(worker.name)
        self.loop.spawn(worker.process, self._stop(worker))

    def ended(self, worker: SimWorker, failure: BaseException | None) -> None:
        """A worker gives up; its supervisor starts it again."""
        checks.may_end(self, failure)
        if self.workers.get(worker.name) is worker:
            self.stop(worker)

    async def _stop(self, worker: SimWorker) -> None:
        try:
            await worker.stop()
        except Exception as error:
            self.note(f"{worker.name} did not stop well: {error!r}")
        self.loop.call_soon(self._gone, worker, context=self.loop.world.context)

    def _gone(self, worker: SimWorker) -> None:
        if worker.process.alive:
            self.note(f"{worker.name} has stopped")
            self.loop.kill(worker.process)
            self._again(worker.name)

    def _again(self, name: str) -> None:
        if self.closing:
            return
        pause_s = RESTART_S * self.random.random() * 3
        self.loop.call_later(pause_s, self.start, name, context=self.loop.world.context)

    # -- the world -------------------------------------------------------------------------------------

    async def abort_one(self, tp: TopicPartition) -> None:
        """Records of activities that were never committed, and their marker."""
        record = (0, self.script.end_ms, b"user-1", b"never committed", ())
        if self.random.random() < 0.7:
            self.broker.logs[tp].append(packed([record], 0, FOREIGN, 0), 1, FOREIGN)
            await asyncio.sleep(self.random.random())
        self.broker.logs[tp].mark(FOREIGN, 0, ABORT)

    async def _produce(self) -> None:
        """All records, in bursts: items at once, activities in batches, so that items come first."""
        pause_s = 3 * self.plan.produce_s / len(self.script.records)
        waiting: dict[TopicPartition, list[Produced]] = {}
        for one in self.script.records:
            if self.random.random() < 0.3:
                await asyncio.sleep(self.random.expovariate(1 / pause_s))
            batch = waiting.setdefault(one.tp, [])
            batch.append(one)
            if one.tp.topic == ITEMS or self.random.random() < 0.5:
                self._append(waiting.pop(one.tp))
        for batch in waiting.values():
            self._append(batch)

    def _append(self, batch: list[Produced]) -> None:
        tp = batch[0].tp
        base = self.broker.append(tp, [(0, one.time_ms, one.key, one.value, ()) for one in batch])
        for offset, one in enumerate(batch, base):
            if one.bad:
                self.bad[tp.topic, tp.partition, offset] = one.value

    async def _settle(self) -> None:
        """As `feedrank settle` does; when it gives up it is asked again, when refused for a later tick."""
        tick = tick_of(self.script.end_ms, TICK_S * 1_000)
        tps = [TopicPartition(ACTIVITIES, p) for p in range(self.plan.partitions)]
        while any(self.broker.logs[tp].stable < self.broker.logs[tp].end for tp in tps):  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)  # nobody can read yet what lies behind an open transaction
        ends = {tp.partition: end for tp, end in self.broker.ends(tps, committed=True).items()}
        board = SettleBoard(SimRedis(self.redis), NAMES)  # type: ignore[arg-type]
        for attempt in range(SETTLES_MAX):
            self.request = SettleRequest(f"settle-{attempt}", tick, tick * TICK_S * 1_000, ends)
            calm = self.faults.over
            try:
                await board.ask(self.request)
                await board.wait(self.request, SETTLE_S, POLL_S)
            except SettleRefused as refused:
                self.note(f"settle is refused: {refused}")
                tick += 1
            except (*checks.REDIS_AWAY, TimeoutError) as error:
                self.note(f"settle has to be asked for again: {error!r}")
                if attempt == SETTLES_MAX - 1 or (calm and isinstance(error, TimeoutError)):
                    raise
                await asyncio.sleep(0.5)
            else:
                return
        raise TimeoutError("nobody settles")

    async def _play(self) -> None:
        self.loop.create_task(self.faults.run())
        for n in range(self.plan.workers):
            self.start(f"worker-{n}")
        self.loop.spawn(self.network.servers, self.group.run())
        await self._produce()
        self.note("all is produced")
        await asyncio.sleep(self.random.choice((0.0, 1.0, 3.0)))
        early = self.random.random() < 0.5
        settling = asyncio.ensure_future(self._settle()) if early else None
        if early:
            await asyncio.sleep(self.random.random() * 2)
        self.faults.end()
        self.note("nothing goes wrong any more")
        await checks.nobody_is_forgotten(self)
        await (settling or self._settle())
        self.note("settled")
        await checks.all_is_committed(self)
        await self._close()

    async def _close(self) -> None:
        """Every worker ends, told to or not, and stays away."""
        self.closing = True
        told = [worker for _, worker in sorted(self.workers.items()) if self.random.random() < 0.5]
        for worker in told:
            self.stop(worker)
        until_s = self.loop.time() + STOP_S
        while any(worker.process.alive for worker in told) and self.loop.time() < until_s:  # noqa: ASYNC110
            await asyncio.sleep(STOP_S / 50)
        for process in [process for process in self.loop.processes if process.name.startswith("worker")]:
            self.loop.kill(process)
        await self.broker.all_marked()

    def run(self) -> Verdict:
        """Play it, and compare."""
        gc.disable()
        try:
            with self.patches.installed():
                try:
                    self.loop.run_until_complete(
                        self.loop.create_task(self._play(), context=self.loop.world.context)
                    )
                    checks.compare(self)
                except (AssertionError, TimeoutError) as error:
                    self.wrong.append(f"{type(error).__name__}: {error}")
                finally:
                    turns, seconds, trace = self.loop.steps, self.loop.time(), self.loop.trace
                    self.wrong += checks.complaints(self)
                    self.loop.wind_up()
                    for process in [*self.loop.processes, *self.loop.graves]:
                        for last in process.at_death:
                            last()
        finally:
            gc.enable()
            asyncio.set_event_loop(None)
        return Verdict(self.seed, self.wrong, trace, turns, seconds, self.faults.counts)


def play(
    seed: int, directory: Path, redis: RedisServer, verbose: bool = False, rocksdb: bool | None = None
) -> Verdict:
    """One seed."""
    return Simulation(seed, directory, redis, _told if verbose else _not_told, rocksdb).run()


def _told(text: str) -> None:
    print(text, file=sys.stderr)


def _not_told(text: str) -> None: ...
