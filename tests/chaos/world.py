"""What faults happen to: a broker and a Redis behind proxies, three workers under a supervisor."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.proxy import Proxy
from tests.integration.job import Job, Worker
from tests.kafka_cluster import start_cluster
from tests.services import Kafka, Redis, free_port, start_kafka, start_redis
from wire.names import Namespace

PARTITIONS = 4
WORKERS = 3
SESSION_S = 4.0
SUPERVISE_S = 0.25
STANDING = ("feedrank_lag_records", "feedrank_position_records", "feedrank_paused_partitions")
LOG_LINES = 20
SETTINGS = {
    "CHECKPOINT_MS": "300",
    "ROCKS_FLUSH_MS": "500",
    "SESSION_TIMEOUT_MS": str(int(SESSION_S * 1_000)),
    "REDIS_TIMEOUT_MS": "1000",
}


@dataclass
class Slot:
    """A place for one worker, with a data directory of its own; `down`: nobody shall restart it now."""

    data: Path
    worker: Worker | None = None
    down: bool = False


@dataclass
class World:
    """Everything is ended with `close`. `restarts`: exit codes of workers that ended by themselves."""

    directory: Path
    brokers: list[Kafka]
    redis: Redis
    kafka_proxies: list[Proxy]
    redis_proxy: Proxy
    job: Job
    slots: list[Slot]
    restarts: Counter[int] = field(default_factory=Counter)

    @classmethod
    def start(cls, directory: Path, brokers: int = 1) -> World:
        """Servers, proxies, topics; no worker yet. One broker, or three with replication 3."""
        directory = directory.resolve()  # a disk is looked at from outside its worker: by its whole path
        ports, outside = [free_port() for _ in range(brokers)], [free_port() for _ in range(brokers)]
        kafka_proxies = list(map(Proxy, ports, outside))  # first: brokers talk to each other through them
        started = _brokers(directory, ports, outside)
        redis = start_redis(directory / "redis")
        redis_proxy = Proxy(redis.port)
        url = f"redis://127.0.0.1:{redis_proxy.port}/0"
        servers = ",".join(f"127.0.0.1:{port}" for port in outside)
        job = Job(servers, url, directory, "chaos", dict(SETTINGS))
        job.create_topics(PARTITIONS, brokers)
        slots = [Slot(directory / f"data-{n}") for n in range(WORKERS)]
        return cls(directory, started, redis, kafka_proxies, redis_proxy, job, slots)

    @property
    def names(self) -> Namespace:
        return self.job.names

    def launch(self, slot: Slot) -> Worker:
        """Start the slot's worker; does not wait."""
        slot.down = False
        standby = ("true", "false")[len(self.job.workers) % 2]  # each slot now with copies, now without
        slot.worker = self.job.launch(FEEDRANK_DATA_DIR=str(slot.data), FEEDRANK_STANDBY=standby)
        return slot.worker

    def launch_on_small_disk(self, slot: Slot, size: str) -> Worker:
        """The same on a disk of this size, seen by the worker only."""
        slot.data.mkdir(parents=True, exist_ok=True)
        port, log = free_port(), self.directory / f"worker-disk-{len(self.job.workers)}.log"
        mount = f"mount -t tmpfs -o size={size} tmpfs {slot.data}"
        run = f"{mount} && exec {sys.executable} -m feedrank.cli worker"
        settings = self.job.environment(FEEDRANK_DATA_DIR=str(slot.data), WORKER_PORT=str(port))
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["unshare", "-m", "sh", "-c", run], env=settings, stdout=output, stderr=subprocess.STDOUT
            )
        slot.worker, slot.down = Worker(process, port, log), False
        self.job.workers.append(slot.worker)
        return slot.worker

    def supervise(self, seconds: float) -> None:
        """Let time pass; start again what ended by itself."""
        until_s = time.monotonic() + seconds
        while True:
            for slot in self.slots:
                code = slot.worker.process.poll() if slot.worker else None
                if code is not None and not slot.down:
                    self.restarts[code] += 1
                    self.launch(slot)
            if time.monotonic() >= until_s:
                return
            time.sleep(SUPERVISE_S)

    def standing(self) -> list[str]:
        """Where each worker that runs stands: what its watchdog knows, and the end of its log."""
        told = []
        for worker in self.job.workers:
            if worker.process.poll() is None:
                try:
                    metrics = worker.metrics().splitlines()
                except OSError as error:
                    metrics = [f"{STANDING[0]}: does not answer: {error}"]
                told += [str(worker.log), *(line for line in metrics if line.startswith(STANDING))]
                told += worker.log.read_text().splitlines()[-LOG_LINES:]
        return told

    def wipe(self, slot: Slot) -> None:
        """Delete the slot's data directory."""
        shutil.rmtree(slot.data, ignore_errors=True)

    def close(self) -> None:
        """End everything."""
        for worker in self.job.workers:
            if worker.process.poll() is None:
                worker.kill()
        for server in (*self.brokers, self.redis):
            server.kill()
        for proxy in (*self.kafka_proxies, self.redis_proxy):
            proxy.stop()


def _brokers(directory: Path, ports: list[int], outside: list[int]) -> list[Kafka]:
    if len(ports) > 1:
        return start_cluster(directory / "kafka", ports, outside)
    advertised = {"advertised.listeners": f"PLAINTEXT://127.0.0.1:{outside[0]}"}
    return [start_kafka(directory / "kafka", ports[0], properties=advertised)]


def disks_can_be_mounted(directory: Path) -> bool:
    """Whether a worker can have a small disk of its own: that takes root and unshare."""
    if os.getuid() != 0 or shutil.which("unshare") is None:
        return False
    directory.mkdir(parents=True, exist_ok=True)
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
