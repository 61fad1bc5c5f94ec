"""The faults: each does its harm, lets it last, and heals what a supervisor would not heal."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import redis

from streams.errors import ExitCode
from tests.chaos.watch import VersionWatch
from tests.chaos.world import SESSION_S, Slot, World, disks_can_be_mounted
from tests.waiting import GUARD_S, until

SMALL_DISK = "24m"
FILL_BYTES = 1 << 20
FULL_S = 4.0


class Faults:
    """Draws faults from `chance` and does them; every kind comes once before any comes again."""

    def __init__(self, world: World, versions: VersionWatch, chance: random.Random) -> None:
        self.world, self.versions, self.chance = world, versions, chance
        self._deck: list[str] = []
        self.kinds: dict[str, Callable[[], None]] = {
            "kill -9": self.kill,
            "frozen": self.freeze,
            "stopped": self.stop,
            "added": self.add,
            "directory deleted": self.wipe,
            "broker restarted": self.restart_broker,
            "redis restarted": self.restart_redis,
            "redis emptied": self.empty_redis,
            "kafka slow": self.slow_kafka,
            "kafka cut": self.cut_kafka,
            "redis slow and cut": self.disturb_redis,
        }
        if disks_can_be_mounted(world.directory / "mount"):
            self.kinds["disk filled"] = self.fill_disk

    def draw(self) -> str:
        """The next kind."""
        if not self._deck:
            self._deck = list(self.kinds)
            self.chance.shuffle(self._deck)
        return self._deck.pop()

    def _slot(self) -> Slot:
        return self.chance.choice(self.world.slots)

    def _down(self, slot: Slot, how: signal.Signals) -> None:
        slot.down = True
        if slot.worker and slot.worker.process.poll() is None:
            slot.worker.process.send_signal(how)
            slot.worker.process.wait(GUARD_S)

    def kill(self) -> None:
        slot = self._slot()
        self._down(slot, signal.SIGKILL)
        self.world.supervise(self.chance.uniform(0, 2))
        self.world.launch(slot)

    def freeze(self) -> None:
        """Longer than the session: the group gives its partitions away, then it wakes up and goes on."""
        worker = self._slot().worker
        if worker is None or worker.process.poll() is not None:
            return
        os.kill(worker.process.pid, signal.SIGSTOP)
        self.world.supervise(SESSION_S + self.chance.uniform(0.5, 3))
        with suppress(ProcessLookupError):
            os.kill(worker.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        slot = self._slot()
        self._down(slot, signal.SIGTERM)
        self.world.supervise(self.chance.uniform(1, 4))
        self.world.launch(slot)

    def add(self) -> None:
        """A fourth worker comes and goes."""
        slot = Slot(self.world.directory / "data-extra")
        self.world.launch(slot)
        self.world.supervise(self.chance.uniform(5, 8))
        self._down(slot, signal.SIGTERM)

    def wipe(self) -> None:
        slot = self._slot()
        self._down(slot, signal.SIGKILL)
        self.world.wipe(slot)
        self.world.launch(slot)

    def fill_disk(self) -> None:
        """Its disk fills while it runs: once it has to write there, it ends and says why. It need not:
        RocksDB keeps few rows in memory, and the changelog has them. With room again it begins anew."""
        slot = self._slot()
        self._down(slot, signal.SIGTERM)
        worker = self.world.launch_on_small_disk(slot, SMALL_DISK)
        slot.down = True
        inside = Path(f"/proc/{worker.process.pid}/root{slot.data}")
        until(
            lambda: worker.process.poll() is not None or _is_another_disk(inside, slot.data), "it is mounted"
        )
        self.world.supervise(self.chance.uniform(3, 5))
        with suppress(OSError), (inside / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(FILL_BYTES))
        self.world.supervise(FULL_S)
        code = worker.process.poll()
        assert code in (None, ExitCode.DATA_DIRECTORY), (
            f"a full disk ended a worker with {code}: {worker.log}"
        )
        self._down(slot, signal.SIGKILL)
        self.world.launch(slot)

    def restart_broker(self) -> None:
        """One of them; where there are several, the others go on without it for a while."""
        broker = self.chance.choice(self.world.brokers)
        broker.kill()
        self.world.supervise(self.chance.uniform(0, 1 if len(self.world.brokers) == 1 else 6))
        broker.start()

    def restart_redis(self) -> None:
        """With its data, all of it: a reader must not see an older feed."""
        with suppress(redis.ConnectionError), redis.Redis(port=self.world.redis.port) as client:
            client.shutdown(save=True)
        self.world.redis.kill()
        self.world.supervise(self.chance.uniform(0, 2))
        self.world.redis.start()

    def empty_redis(self) -> None:
        self.versions.forget(self._empty)

    def _empty(self) -> None:
        self.world.redis.kill()
        (self.world.redis.log.parent / "dump.rdb").unlink(missing_ok=True)
        self.world.redis.start()

    def slow_kafka(self) -> None:
        proxy = self.chance.choice(self.world.kafka_proxies)
        proxy.delay_s = self.chance.uniform(0.02, 0.2)
        self.world.supervise(3)
        proxy.delay_s = 0.0

    def cut_kafka(self) -> None:
        for _ in range(3):
            self.chance.choice(self.world.kafka_proxies).cut()
            self.world.supervise(self.chance.uniform(0.1, 1))

    def disturb_redis(self) -> None:
        self.world.redis_proxy.delay_s = 0.3
        for _ in range(3):
            self.world.supervise(self.chance.uniform(0.1, 1))
            self.world.redis_proxy.cut()
        self.world.redis_proxy.delay_s = 0.0


def _is_another_disk(one: Path, other: Path) -> bool:
    """Before it is mounted, what fills it would fill the disk of this machine."""
    with suppress(OSError):
        return one.stat().st_dev != other.stat().st_dev
    return False


def timed(fault: Callable[[], None]) -> tuple[float, float]:
    """Do it; when it began and ended, in seconds of the monotonic clock."""
    began_s = time.monotonic()
    fault()
    return began_s, time.monotonic()
