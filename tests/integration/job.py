"""A whole job for tests: a real Kafka, a real Redis, worker processes, and what they left behind.

with Job(kafka, redis_url, tmp_path, namespace) as job:
    job.create_topics(4); job.load(events); job.start_worker(); job.settle(as_of_ms)
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType

import orjson
import redis
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from feedrank.load.events import Event
from feedrank.load.send import Sender, encoder
from streams.concerns import KafkaSettings
from streams.topics_admin import TopicsAdmin
from tests.services import free_port
from tests.waiting import GUARD_S, until
from wire.names import Namespace
from wire.version import Version

SETTLE_S = 300.0


@dataclass
class Worker:
    """One `feedrank worker` process; its output is in `log`."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=GUARD_S) as answer:
            text: bytes = answer.read()
        return text.decode()

    def owns(self) -> set[int]:
        """Partitions of activities that it works on at the moment."""
        pattern = r'^feedrank_position_records{partition="(\d+)",topic="feedrank\.activities"} '
        return {int(partition) for partition in re.findall(pattern, self.metrics(), re.MULTILINE)}

    def applied(self) -> float:
        """How many activities it has applied since it was started."""
        found = re.search(
            r'^feedrank_activities_total{outcome="applied"} (\S+)$', self.metrics(), re.MULTILINE
        )
        return float(found[1]) if found else 0.0

    def freeze(self) -> None:
        """It does nothing more until it is thawed, killed, or the block ends."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return self.process.wait(GUARD_S)


@dataclass
class Job:
    """`settings`: more variables for the workers. Everything that was started is ended with the block."""

    bootstrap: str
    redis_url: str
    directory: Path
    namespace: str
    settings: dict[str, str] = field(default_factory=dict)
    workers: list[Worker] = field(default_factory=list)
    module: str = "feedrank.cli"
    """What `python -m` runs as a worker."""

    def __enter__(self) -> Job:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()
        if kind is not None:
            for worker in self.workers:
                print(f"--- {worker.log}\n{worker.log.read_text()[-6_000:]}", file=sys.stderr)

    @property
    def names(self) -> Namespace:
        return Namespace(self.namespace)

    @property
    def kafka(self) -> KafkaSettings:
        return KafkaSettings(KAFKA_BOOTSTRAP_SERVERS=self.bootstrap)  # type: ignore[call-arg]

    def create_topics(self, partitions: int, replication: int = 1) -> None:
        admin = TopicsAdmin(self.kafka, self.names)
        admin.create(partitions, replication)
        admin.keep_all("feedrank.activities")
        admin.keep_all("feedrank.items")

    def load(self, events: Iterable[Event]) -> Sender:
        sender = Sender(self.kafka, encoder("avro"))
        for _ in sender.send(events):
            pass
        return sender

    def environment(self, **more: str) -> dict[str, str]:
        """Variables of every process of this job."""
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith(("FEEDRANK_", "KAFKA_", "REDIS_"))},
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "REDIS_URL": self.redis_url,
            "FEEDRANK_NAMESPACE": self.namespace,
            "FEEDRANK_CLOCK": "stream",
            "SESSION_TIMEOUT_MS": "6000",
            **self.settings,
            **more,
        }

    def start_worker(self, **more: str) -> Worker:
        """Start a worker and wait until it is ready."""
        worker = self.launch(**more)
        until(
            lambda: worker.process.poll() is not None or worker.ready(),
            f"a worker is ready; its log is {worker.log}",
            lambda: worker.log.stat().st_size,
        )
        ended = worker.process.poll()
        assert ended is None, f"a worker ended with {ended}:\n{worker.log.read_text()[-6_000:]}"
        return worker

    def start_two(
        self, partitions: int, of_the_first: Mapping[str, str] = MappingProxyType({}), **more: str
    ) -> tuple[Worker, Worker]:
        """Start two workers and wait until each owns half of the partitions."""
        first, second = self.launch(**more, **of_the_first), self.launch(**more)

        def halved() -> bool:
            assert first.process.poll() is None, first.log.read_text()[-6_000:]
            assert second.process.poll() is None, second.log.read_text()[-6_000:]
            if not (first.ready() and second.ready()):
                return False
            one, other = first.owns(), second.owns()
            return len(one) == len(other) and one | other == set(range(partitions))

        until(halved, "each of two workers owns half of the partitions")
        return first, second

    def launch(self, **more: str) -> Worker:
        """Start a worker with a port and a data directory of its own, unless `more` says otherwise."""
        port, number = free_port(), len(self.workers)
        log = self.directory / f"worker-{number}.log"
        data = {"FEEDRANK_DATA_DIR": str(self.directory / f"data-{number}"), "WORKER_PORT": str(port)}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", self.module, "worker"],
                env=self.environment(**{**data, **more}),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        worker = Worker(process, port, log)
        self.workers.append(worker)
        return worker

    def settle(self, as_of_ms: int) -> str:
        """`feedrank settle`; its output."""
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "feedrank.cli",
                "settle",
                "--as-of-ms",
                str(as_of_ms),
                "--timeout-s",
                str(SETTLE_S),
            ],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=SETTLE_S + 30,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def rows(self, changelog: str) -> dict[bytes, bytes]:
        """The newest committed value of every row in a changelog, position records left out."""
        return {key: value for key, value in self.newest(changelog).items() if not key.startswith(b"!")}

    def newest(self, topic: str) -> dict[bytes, bytes]:
        """The newest committed value by key; position records by partition (`!position/3`)."""
        group = {"group.id": f"test-{self.namespace}", "enable.partition.eof": True}
        consumer = Consumer(self.kafka.confluent() | group)
        found: dict[bytes, bytes] = {}
        try:
            partitions = consumer.list_topics(topic).topics[topic].partitions
            consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
            reading = set(partitions)
            while reading:
                for message in consumer.consume(10_000, 0.5):
                    error = message.error()
                    if error is None:
                        _keep(found, message)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        reading.discard(message.partition())
                    else:
                        raise AssertionError(error)
        finally:
            consumer.close()
        return found

    def ends(self, topic: str) -> dict[int, int]:
        """The end of each partition."""
        consumer = Consumer(self.kafka.confluent() | {"group.id": f"test-{self.namespace}"})
        try:
            parts = consumer.list_topics(topic).topics[topic].partitions
            return {p: consumer.get_watermark_offsets(TopicPartition(topic, p))[1] for p in parts}
        finally:
            consumer.close()

    def position(self, partition: int) -> dict[str, int]:
        """The position record of a shard of activities."""
        found: dict[str, int] = orjson.loads(
            self.newest(self.names.users_changelog)[b"!position/%d" % partition]
        )
        return found

    def settled_feeds(self, surface: str, as_of_ms: int) -> dict[str, dict[str, bytes]]:
        """Head hashes of a surface ranked at `as_of_ms` or later, by user: who is not active then keeps
        whatever the live job made last."""
        client = redis.Redis.from_url(self.redis_url)
        found = {}
        prefix = f"feed:{self.namespace}:{surface}:{{"
        for key in client.scan_iter(match=prefix + "*}", count=10_000):
            head = {name.decode(): value for name, value in client.hgetall(key).items()}
            if Version.parse(head["version"].decode()).as_of_ms >= as_of_ms:
                found[key.decode()[len(prefix) : -1]] = head
        client.close()
        return found


def _keep(found: dict[bytes, bytes], message: Message) -> None:
    key = message.key() or b""
    if key.startswith(b"!"):
        key += b"/%d" % message.partition()
    if message.value() is None:
        found.pop(key, None)
    else:
        found[key] = message.value()
