"""Where transitions of jobs are recorded (all steps): a topic, or a file for replays that need no Kafka."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.concerns import KafkaSettings
from streams.errors import ExitCode, OperatorError
from topologies.replay.job import Entry, Job, fold
from topologies.replay.shadow import disk_error
from wire.names import JOBS

ANSWER_S = 10.0
READ_S_MAX = 60.0
POLL_S = 0.1
"""A call waits so long for its last messages, whatever has come."""
PARTITION = 0
FILE = "jobs.jsonl"


class JobLog(Protocol):
    """Jobs, and a way to move one."""

    def jobs(self) -> dict[str, Job]:
        """All jobs by id."""
        ...

    def append(self, entry: Entry) -> bool:
        """Record an entry; False when it came too late to count."""
        ...


class FileJobLog:
    """One line an entry, in the data directory; a lock of the kernel puts writers into a row."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE

    def jobs(self) -> dict[str, Job]:
        """All jobs by id. Raises OperatorError when the file is damaged."""
        try:
            return fold(self._entries(self._path.read_bytes()))
        except FileNotFoundError:
            return {}

    def _entries(self, text: bytes) -> list[Entry]:
        found = []
        for number, line in enumerate(text.split(b"\n"), 1):
            if not line:
                continue
            try:
                found.append(Entry.decode(line))
            except ValueError as error:
                if not text.endswith(b"\n") and line == text.rpartition(b"\n")[2]:
                    break  # whoever wrote it died in the middle: it never counted
                raise OperatorError(
                    f"{self._path} line {number} is damaged ({error}); correct or delete that line",
                    ExitCode.DATA_DIRECTORY,
                ) from error
        return found

    def append(self, entry: Entry) -> bool:
        """Record it if it counts. Raises OperatorError when the disk does not take it."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                text = file.read()
                job = fold(self._entries(text)).get(entry.job) or Job(entry.job)
                if not job.accepts(entry):
                    return False
                if text and not text.endswith(b"\n"):
                    file.truncate(len(text) - len(text.rpartition(b"\n")[2]))
                file.write(entry.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise disk_error(self._path, error) from error
        return True


class KafkaJobLog:
    """One partition of a topic that keeps everything; the broker puts writers into a row.

    Raises OperatorError wherever the broker does not answer.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._made = False

    def jobs(self) -> dict[str, Job]:
        """All jobs by id."""
        return fold(self._entries())

    def append(self, entry: Entry) -> bool:
        """Write it, then look whether it was the first that follows what it follows."""
        self._make_topic()
        failed: list[KafkaError] = []
        producer = Producer({**self._kafka.confluent(), "log_level": 0, "acks": "all", "retries": 0})
        producer.produce(
            JOBS,
            entry.encode(),
            entry.job.encode(),
            partition=PARTITION,
            on_delivery=lambda error, message: failed.append(error) if error else None,
        )
        if producer.flush(ANSWER_S) or failed:
            raise self._unreachable(failed[0].str() if failed else "no answer")
        job, counted = Job(entry.job), False
        for one in self._entries():
            if one.job == entry.job and job.take(one):
                counted = counted or one.entry == entry.entry
        return counted

    def _make_topic(self) -> None:
        if self._made:
            return
        admin = AdminClient({**self._kafka.confluent(), "log_level": 0})
        try:
            if self._kafka.embedded:
                admin.list_topics(topic=JOBS, timeout=ANSWER_S)
            elif JOBS not in admin.list_topics(timeout=ANSWER_S).topics:
                topic = NewTopic(JOBS, 1, -1, config={"cleanup.policy": "delete", "retention.ms": "-1"})
                admin.create_topics([topic], request_timeout=ANSWER_S)[JOBS].result(ANSWER_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise self._unreachable(error.args[0].str()) from error
        self._made = True

    def _entries(self) -> list[Entry]:
        consumer = Consumer(
            {
                **self._kafka.confluent(),
                "log_level": 0,
                "group.id": "feedrank-jobs",  # never joined: partitions are assigned by hand
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 20,  # the answer that tells of the end holds nothing
                "allow.auto.create.topics": False,
            }
        )
        try:
            if JOBS not in consumer.list_topics(timeout=ANSWER_S).topics:
                return []
            consumer.assign([TopicPartition(JOBS, PARTITION, 0)])
            found: list[Entry] = []
            deadline_s = time.monotonic() + READ_S_MAX
            while time.monotonic() < deadline_s:
                for message in consumer.consume(1_000, POLL_S):
                    error = message.error()
                    if error is None:
                        found += self._decoded(message.value())
                    elif error.code() == KafkaError._PARTITION_EOF:
                        return found
                    elif error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:  # made a moment ago
                        raise KafkaException(error)
            raise self._unreachable("no answer")
        except KafkaException as error:
            raise self._unreachable(error.args[0].str()) from error
        finally:
            consumer.close()

    @staticmethod
    def _decoded(value: bytes | None) -> list[Entry]:
        """What others wrote into the topic is passed over."""
        try:
            return [Entry.decode(value or b"")]
        except ValueError:
            return []

    def _unreachable(self, why: str) -> OperatorError:
        return OperatorError(
            f"Kafka at {self._kafka.bootstrap_servers} does not tell of jobs ({why}); check "
            "KAFKA_BOOTSTRAP_SERVERS and the brokers",
            ExitCode.BROKER_UNREACHABLE,
        )
