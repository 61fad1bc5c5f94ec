"""The zombie by itself: `python -m tests.chaos.zombie [--between] [--frozen-s 40] [--unfenced]`.

A worker is stopped (SIGSTOP) in the middle of a checkpoint: the broker holds an open transaction of it. Or
`--between` two, with rows changed that it has not committed: no transaction can time out, and the fence alone
stands between it and the changelog. Another takes its partitions and goes on. Long past session and
transaction time-out the first is woken up and does what it still had in mind. Then all workers are killed,
their disks deleted, and one worker rebuilds all from the changelogs alone and applies what comes next. Rows,
item statistics, settled feeds and dead letters must be those of a worker that read the same topics in peace.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from tests.chaos.__main__ import Report, compare
from tests.chaos.load import Generator
from tests.chaos.world import PARTITIONS, Slot, World
from tests.integration.conftest import drained, lags
from tests.integration.job import Worker
from tests.waiting import GUARD_S, until

FROZEN_S = 40.0
PER_S = 120
BEFORE_S, AFTER_S = 15.0, 10.0
HELD_BACK = 600
"""Activities for the worker that was rebuilt: it has to go on from what it found."""
ATTEMPTS_MAX = 100
STILL_OPEN_S = 0.5
"""A transaction that is open for so long after its sender was stopped is not about to be committed."""
REQUEST_TIMEOUT_MS = "120000"
"""So long that the zombie goes on where it was; with the default of 30 s it gives its checkpoint up."""
SLOW_S = 0.05
"""The network's delay while a checkpoint is to be caught in the middle."""


class NeverCaughtError(AssertionError):
    """The worker was never stopped at the right moment: nothing was shown."""


def run(
    directory: Path, frozen_s: float = FROZEN_S, within: bool = True, module: str = "feedrank.cli"
) -> Report:
    """Do it all; the processes are gone when it returns. `report.wrong` is empty when nothing was lost.

    `within` a checkpoint, or between two.
    """
    seconds = BEFORE_S + frozen_s + AFTER_S
    world = World.start(directory)
    world.slots = world.slots[:2]
    checkpoint_ms = "100" if within else "3000"
    world.job.settings |= {"CHECKPOINT_MS": checkpoint_ms, "REQUEST_TIMEOUT_MS": REQUEST_TIMEOUT_MS}
    world.job.module = module
    report = Report(1)
    try:
        generator = Generator(world.job.bootstrap, 1, int(seconds * PER_S) + HELD_BACK, seconds, HELD_BACK)
        generator.send_items()
        for slot in world.slots:
            until(world.launch(slot).ready, "a worker is ready")
        until(lambda: all(map(owned, world.slots)), "both own partitions")
        generator.start()
        _haunt(world, frozen_s, report, within)
        generator.join()
        until(lambda: _drained(world), "all is applied by somebody", lambda: lags(world.job))
        _rebuild(world, generator)
        report.activities, report.bad, report.pages = generator.sent, generator.bad, 1
        report.wrong += [f"the generator: {line}" for line in generator.failed[:3]]
        compare(world, report, generator)
    finally:
        world.close()
    return report


def owned(slot: Slot) -> list[int]:
    """The partitions of activities that the slot's worker has, as it says itself."""
    assert slot.worker is not None
    lines = slot.worker.metrics().splitlines()
    mine = [line for line in lines if line.startswith("feedrank_position_records{")]
    return [
        p for p in range(PARTITIONS) if any(f'partition="{p}",topic="feedrank.act' in line for line in mine)
    ]


def _haunt(world: World, frozen_s: float, report: Report, within: bool) -> None:
    """Freeze the first worker, let another take over, wake it up, let it take part."""
    zombie, other = world.slots
    assert zombie.worker is not None
    assert other.worker is not None
    with _slow(world) if within else nullcontext():
        partitions = _freeze(world, zombie.worker, owned(zombie), within)
    frozen = time.monotonic()
    before = lags(world.job)
    until(lambda: set(owned(other)) == set(range(PARTITIONS)), "the other worker has all partitions")
    until(
        lambda: all(now > then for (now, _), (then, _) in zip(lags(world.job), before, strict=False)),
        "the other worker goes on where the frozen one was",
    )
    world.supervise(max(0.0, frozen + frozen_s - time.monotonic()))
    print(f"frozen for {time.monotonic() - frozen:.0f} s; partitions with an open transaction: {partitions}")
    os.kill(zombie.worker.process.pid, signal.SIGCONT)
    report.faults["frozen within a checkpoint" if within else "frozen between two checkpoints"] += 1
    log, seen = zombie.worker.log, len(zombie.worker.log.read_text())
    until(lambda: _at_work(world), "both are at work again")
    until(lambda: all(map(owned, world.slots)), "both own partitions again")
    said = [line for line in log.read_text()[seen:].splitlines() if "shard" in line]
    print("\n".join(["what the zombie said when it woke up:", *said]))


def _at_work(world: World) -> bool:
    world.supervise(0)
    return all(slot.worker and slot.worker.ready() for slot in world.slots)


def _drained(world: World) -> bool:
    world.supervise(0)
    return drained(world.job)


@contextmanager
def _slow(world: World) -> Iterator[None]:
    for proxy in world.kafka_proxies:
        proxy.delay_s = SLOW_S
    yield
    for proxy in world.kafka_proxies:
        proxy.delay_s = 0.0


def _freeze(world: World, worker: Worker, partitions: list[int], within: bool) -> list[int]:
    """Stop it again and again until the broker holds an open transaction of it, of which partitions; or none.

    Between two checkpoints of 3 s, with 60 activities a second, it has changed rows in memory.
    """
    broker = world.brokers[0].bootstrap
    admin = AdminClient({"bootstrap.servers": broker, "log_level": 0})
    places = [TopicPartition(world.names.users_changelog, p) for p in partitions]
    for _ in range(ATTEMPTS_MAX):
        os.kill(worker.process.pid, signal.SIGSTOP)
        time.sleep(STILL_OPEN_S)
        found = _open(admin, places)
        if bool(found) == within:
            return found
        os.kill(worker.process.pid, signal.SIGCONT)
        time.sleep(0.25)
    raise NeverCaughtError(f"not once in {ATTEMPTS_MAX} times; see {worker.log}")


def _open(admin: AdminClient, places: list[TopicPartition]) -> list[int]:
    """Partitions with records of a transaction that is neither committed nor aborted."""
    ends = []
    for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED):
        asked = admin.list_offsets({place: OffsetSpec.latest() for place in places}, isolation_level=level)
        ends.append({place.partition: future.result(GUARD_S).offset for place, future in asked.items()})
    committed, written = ends
    return [partition for partition in committed if committed[partition] < written[partition]]


def _rebuild(world: World, generator: Generator) -> None:
    """Nothing is left but what Kafka holds; a new worker makes everything of it and applies the rest."""
    for slot in world.slots:
        assert slot.worker is not None
        slot.worker.kill()
        world.wipe(slot)
    del world.slots[1:]
    worker = world.launch(world.slots[0])
    until(worker.ready, "the rebuilt worker is ready")
    generator.send_rest()
    until(lambda: _drained(world), "the rest is applied", lambda: lags(world.job))


def main() -> int:
    """Exit code 1 when anything was lost or doubled."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.zombie", description=__doc__)
    parser.add_argument("--frozen-s", type=float, default=FROZEN_S)
    parser.add_argument("--between", action="store_true", help="frozen between two checkpoints")
    parser.add_argument("--unfenced", action="store_true", help="break the fence: it must be noticed")
    chosen = parser.parse_args()
    module = "tests.chaos.unfenced" if chosen.unfenced else "feedrank.cli"
    with tempfile.TemporaryDirectory(prefix="feedrank-zombie-") as directory:
        report = run(Path(directory), chosen.frozen_s, not chosen.between, module)
    print("\n".join(report.lines()))
    return bool(report.wrong)


if __name__ == "__main__":
    sys.exit(main())
