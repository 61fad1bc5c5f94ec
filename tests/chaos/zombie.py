"""The zombie by itself: `python -m tests.chaos.zombie [--between] [--frozen-s 40] [--unfenced]`.

A worker is stopped (SIGSTOP) in the middle of a checkpoint: the broker holds an open transaction of it. Or
`--between` two, with rows changed that it has not committed: no time-out helps, and the fence alone stands
between it and the changelog. Another takes its partitions and goes on. Long past session and
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

import orjson
from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from tests.chaos.__main__ import Report, compare
from tests.chaos.load import Generator
from tests.chaos.rolling import POSITION
from tests.chaos.world import PARTITIONS, Slot, World
from tests.integration.conftest import drained, lags
from tests.waiting import GUARD_S, until

FROZEN_S = 40.0
PER_S = 120
BEFORE_S, AFTER_S = 15.0, 10.0
HELD_BACK = 600
"""Activities for the worker that was rebuilt: it has to go on from what it found."""
ATTEMPTS_MAX = 100
RUN_S = 1.7
"""Between two attempts: what was due is done by then."""
STILL_OPEN_S = 0.5
"""A transaction that is open for so long after its sender was stopped is not about to be committed."""
LONG_MS = "120000"
"""So long that the zombie goes on where it was: with the defaults it gives up a request after 30 s by itself,
and the broker ends a transaction that was just begun after 10 s, whoever owns the shard."""
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
    world.job.settings |= {"CHECKPOINT_MS": "100", "REQUEST_TIMEOUT_MS": LONG_MS}
    if not within:
        world.job.settings |= {"CHECKPOINT_MS": "3000", "TRANSACTION_TIMEOUT_MS": LONG_MS}
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
    except NeverCaughtError:
        raise
    except AssertionError as stuck:
        report.wrong.append(f"{stuck}; workers ended with {dict(world.restarts)}: {_errors(world)}")
    finally:
        world.close()
    return report


def _errors(world: World) -> list[str]:
    """What workers said last before they ended."""
    lines = [line for worker in world.job.workers for line in worker.log.read_text().splitlines()]
    return sorted({line[25:300] for line in lines if " error " in line[:34]})[:5]


def owned(slot: Slot) -> dict[int, int]:
    """The partitions of activities that the slot's worker has, and where it stands, as it says itself."""
    assert slot.worker is not None
    return {int(p): int(float(at)) for p, at in POSITION.findall(slot.worker.metrics())}


def _haunt(world: World, frozen_s: float, report: Report, within: bool) -> None:
    """Freeze the first worker, let another take over, wake it up, let it take part."""
    zombie, other = world.slots
    assert zombie.worker is not None
    assert other.worker is not None
    with _slow(world) if within else nullcontext():
        partitions = _freeze(world, zombie, within)
    frozen = time.monotonic()
    before = lags(world.job)
    until(lambda: set(owned(other)) == set(range(PARTITIONS)), "the other worker has all partitions")
    until(
        lambda: all(now > then for (now, _), (then, _) in zip(lags(world.job), before, strict=False)),
        "the other worker goes on where the frozen one was",
    )
    world.supervise(max(0.0, frozen + frozen_s - time.monotonic()))
    what = "with an open transaction" if within else "with changes that are not committed"
    print(f"frozen for {time.monotonic() - frozen:.0f} s, partitions {what}: {partitions}")
    log, seen = zombie.worker.log, len(zombie.worker.log.read_text())
    os.kill(zombie.worker.process.pid, signal.SIGCONT)
    report.faults["frozen within a checkpoint" if within else "frozen between two checkpoints"] += 1
    until(lambda: bool(_of_shards(log, seen)), "the zombie notices that its shards are gone")
    until(lambda: _at_work(world), "both are at work again")
    until(lambda: all(map(owned, world.slots)), "both own partitions again")
    print("\n".join(["what the zombie said when it woke up:", *_of_shards(log, seen)]))


def _of_shards(log: Path, after: int) -> list[str]:
    return [line for line in log.read_text()[after:].splitlines() if "shard" in line]


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


def _freeze(world: World, slot: Slot, within: bool) -> list[int]:
    """Stop it again and again until the moment was right: the broker holds an open transaction of it, or none
    at all, but it has applied records beyond the changelog's position. Of which partitions."""
    assert slot.worker is not None
    admin = AdminClient({"bootstrap.servers": world.brokers[0].bootstrap, "log_level": 0})
    for _ in range(ATTEMPTS_MAX):
        applied = owned(slot)
        os.kill(slot.worker.process.pid, signal.SIGSTOP)
        time.sleep(STILL_OPEN_S)
        opened = _open(admin, [TopicPartition(world.names.users_changelog, p) for p in applied])
        if within and opened:
            return opened
        if not within and not opened:
            records = world.job.newest(world.names.users_changelog)
            if ahead := [p for p, at in applied.items() if at > _position(records, p) > 0]:
                return ahead
        os.kill(slot.worker.process.pid, signal.SIGCONT)
        time.sleep(RUN_S)
    raise NeverCaughtError(f"not once in {ATTEMPTS_MAX} times; see {slot.worker.log}")


def _position(records: dict[bytes, bytes], partition: int) -> int:
    record = records.get(b"!position/%d" % partition)
    return orjson.loads(record)["position"] if record else 0


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
    parser.add_argument("--directory", type=Path, help="where logs stay; none: a temporary one")
    chosen = parser.parse_args()
    module = "tests.chaos.unfenced" if chosen.unfenced else "feedrank.cli"
    with tempfile.TemporaryDirectory(prefix="feedrank-zombie-") as temporary:
        directory = chosen.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        report = run(directory, chosen.frozen_s, not chosen.between, module)
    print("\n".join(report.lines()))
    return bool(report.wrong)


if __name__ == "__main__":
    sys.exit(main())
