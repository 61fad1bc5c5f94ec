"""Asks about topics, creates them, reads the lag (before step 1). It blocks: call in a thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

from streams.concerns import KafkaSettings
from streams.errors import ExitCode, OperatorError
from streams.topics import PARTITIONS_DEFAULT, TIMESTAMP_AHEAD, Desired, Found, Report, desired, judge
from wire.names import ACTIVITIES, Namespace

ANSWER_S = 8.0
VISIBLE_S = 15.0
POLL_S = 0.1
SETTLING = frozenset({KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS})
SETTLING_S = 10.0
SETTLING_PAUSE_S = 0.2
QUIET = {"log_level": 0}
"""librdkafka else narrates every failed connection on stderr; our one message replaces that."""


@dataclass(frozen=True, slots=True)
class Lag:
    """One partition: the group's committed offset (-1: none), the log's bounds, records between."""

    topic: str
    partition: int
    committed: int
    start: int
    end: int

    @property
    def records(self) -> int:
        return self.end - max(self.committed, self.start)


class TopicsAdmin:
    """The topics of one namespace on one cluster.

    Every method raises OperatorError (broker unreachable) when the broker does not answer in time.
    """

    def __init__(self, kafka: KafkaSettings, names: Namespace) -> None:
        self._kafka, self._names = kafka, names
        self._said: list[str] = []
        self._admin = AdminClient({**kafka.confluent(), **QUIET, "error_cb": self._hear})

    def _hear(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # says nothing that the others don't
            self._said.append(error.str())

    def check(self, led: bool = True) -> Report:
        """Compare what is there with what the namespace needs. `led`: a topic without a leader is missing."""
        found = self._found(led)
        wanted = desired(self._names)
        if not self._kafka.embedded:
            found = self._configured([d.name for d in wanted if d.name in found], found)
        return judge(wanted, found, self._kafka.embedded)

    def partitions(self, topic: str = ACTIVITIES) -> int:
        """The partition count. Raises OperatorError (topics wrong) when the topic is missing."""
        found = self._found()
        if topic not in found:
            raise OperatorError(
                f"{topic} is missing; `feedrank topics create` makes it", ExitCode.TOPICS_WRONG
            )
        return found[topic].partitions

    def retention_ms(self, topic: str) -> int | None:
        """How long the topic keeps records; None: for ever, or the broker cannot say (embedded)."""
        found = self._found()
        if self._kafka.embedded or topic not in found:
            return None
        config = self._configured([topic], found)[topic].config
        kept_ms = int(config.get("retention.ms", -1))
        return None if kept_ms < 0 or "delete" not in config.get("cleanup.policy", "delete") else kept_ms

    def is_compacted(self, topic: str) -> bool:
        """Whether the topic loses older records of a key; False where the broker cannot say (embedded)."""
        found = self._found()
        if self._kafka.embedded or topic not in found:
            return False
        return "compact" in self._configured([topic], found)[topic].config.get("cleanup.policy", "delete")

    def keep_all(self, topic: str = ACTIVITIES) -> None:
        """Let the topic keep its records for ever: Kafka deletes by timestamp, and old data has old ones."""
        if self._kafka.embedded:
            return
        entry = ConfigEntry("retention.ms", "-1", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        for result in self._admin.incremental_alter_configs([resource]).values():
            self._ask(partial(result.result, ANSWER_S))
        self._await(lambda: self.retention_ms(topic) is None, f"{topic}: set to keep everything")

    def create(
        self, partitions: int | None = None, replication: int = -1, but: Collection[str] = ()
    ) -> list[str]:
        """Make what is missing and wait until it can be seen; return the names made.

        `partitions` counts for activities and all that follow it, unless activities exist already: their
        count wins. `replication` -1 is the broker's default. On an embedded broker topics appear with its
        own count (4), since it creates on a metadata request only. `but`: topics to leave for later.
        """
        found = self._found()
        count = self._count(partitions, found)
        missing = [one for one in desired(self._names) if one.name not in {*found, *but}]
        if self._kafka.embedded:
            for one in missing:
                self._ask(partial(self._admin.list_topics, topic=one.name, timeout=ANSWER_S))
        elif missing:
            self._make(missing, count, replication)
        self._await_visible([one.name for one in missing])
        return [one.name for one in missing]

    def lag(self) -> list[Lag]:
        """Lag of the namespace's group on activities, by partition."""
        consumer = Consumer(
            {**self._kafka.confluent(), **QUIET, "group.id": self._names.group, "enable.auto.commit": False}
        )
        try:
            asked = [TopicPartition(ACTIVITIES, p) for p in range(self.partitions())]
            committed = self._ask(lambda: consumer.committed(asked, timeout=ANSWER_S))
            return [self._lag_of(consumer, one) for one in committed]
        finally:
            consumer.close()

    def _lag_of(self, consumer: Consumer, committed: TopicPartition) -> Lag:
        start, end = self._ask(lambda: consumer.get_watermark_offsets(committed, timeout=ANSWER_S))
        return Lag(committed.topic, committed.partition, max(committed.offset, -1), start, end)

    @staticmethod
    def _count(partitions: int | None, found: dict[str, Found]) -> int:
        if ACTIVITIES not in found:
            return partitions or PARTITIONS_DEFAULT
        there = found[ACTIVITIES].partitions
        if partitions not in (None, there):
            raise OperatorError(
                f"{ACTIVITIES} has {there} partitions, not {partitions}; the count is fixed per namespace: "
                "leave --partitions out, or replay into a new topic",
                ExitCode.TOPICS_WRONG,
            )
        return there

    def _make(self, missing: list[Desired], count: int, replication: int) -> None:
        """A broker that cannot refuse records from the future makes its topics without: `check` warns."""
        refused = self._made({one.name: one.config() for one in missing}, count, replication)
        timed = {one.name: one.config() for one in missing if one.timed and one.name in refused}
        for name, config in timed.items():
            if refused[name].args[0].code() == KafkaError.INVALID_CONFIG:
                del config[TIMESTAMP_AHEAD], refused[name]
        again = {name: config for name, config in timed.items() if name not in refused}
        if again:
            refused |= self._made(again, count, replication)
        for name, error in refused.items():
            raise self._refused(f"create {name}", error) from error

    def _made(
        self, configs: Mapping[str, dict[str, str]], count: int, replication: int
    ) -> dict[str, KafkaException]:
        """Create topics; returns those that the broker refuses, with its reason."""
        new = [
            NewTopic(name, num_partitions=count, replication_factor=replication, config=config)
            for name, config in configs.items()
        ]
        results: dict[str, Future[None]] = self._admin.create_topics(new, request_timeout=ANSWER_S)
        refused: dict[str, KafkaException] = {}
        for name, result in results.items():
            try:
                result.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another worker was faster
                    refused[name] = error
        return refused

    def _await_visible(self, names: list[str]) -> None:
        def there() -> bool:
            return not set(names) - set(self._found())

        self._await(there, f"{', '.join(names)}: created")

    def _await(self, seen: Callable[[], bool], what: str) -> None:
        """A broker answers before each of them shows what was done."""
        deadline = time.monotonic() + VISIBLE_S
        while not seen():
            if time.monotonic() > deadline:
                raise OperatorError(
                    f"{what}, but not seen after {VISIBLE_S:.0f} s; look at the brokers' logs",
                    ExitCode.TOPICS_WRONG,
                )
            time.sleep(POLL_S)

    def _found(self, led: bool = True) -> dict[str, Found]:
        metadata = self._ask(lambda: self._admin.list_topics(timeout=ANSWER_S))
        return {
            name: Found(len(topic.partitions), min(len(p.replicas) for p in topic.partitions.values()))
            for name, topic in metadata.topics.items()
            if topic.partitions
            and (not led or topic.error is None)
            and (not led or all(p.leader >= 0 for p in topic.partitions.values()))
        }

    def _configured(self, wanted: list[str], found: dict[str, Found]) -> dict[str, Found]:
        """The same with configurations, for the wanted topics only."""
        if not wanted:
            return {}
        resources = [ConfigResource(ConfigResource.Type.TOPIC, one) for one in wanted]
        answers = self._ask(lambda: self._admin.describe_configs(resources, request_timeout=ANSWER_S))
        described = {}
        for resource, answer in answers.items():
            entries = self._ask(answer.result)
            there = found[resource.name]
            config = {name: entry.value for name, entry in entries.items() if entry.value is not None}
            described[resource.name] = Found(there.partitions, there.replication, config)
        return described

    def _ask(self, question: Callable[[], Any]) -> Any:
        """An answer; a broker that is settling (a coordinator that moves) is asked again for a while."""
        deadline_s = time.monotonic() + SETTLING_S
        while True:
            try:
                return question()
            except KafkaException as error:
                settling = error.args[0].code() in SETTLING and time.monotonic() < deadline_s
                if not settling:
                    raise self._refused("answer", error) from error
            time.sleep(SETTLING_PAUSE_S)

    def _refused(self, what: str, error: KafkaException) -> OperatorError:
        cause: KafkaError = error.args[0]
        where = self._kafka.bootstrap_servers
        if cause.code() in _UNREACHABLE:
            self._admin.poll(0)
            said = f" ({self._said[0]})" if self._said else ""
            return OperatorError(
                f"Kafka at {where} does not answer within {ANSWER_S:.0f} s{said}; start it, or correct "
                "KAFKA_BOOTSTRAP_SERVERS and KAFKA_SECURITY_PROTOCOL",
                ExitCode.BROKER_UNREACHABLE,
            )
        advice = (
            "give this user the right, or have an administrator do it"
            if _forbidden(cause)
            else ("correct that, then try again")
        )
        return OperatorError(
            f"Kafka at {where} refused to {what}: {cause.str()}; {advice}", ExitCode.TOPICS_WRONG
        )


_UNREACHABLE = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._TIMED_OUT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
    }
)


def _forbidden(error: KafkaError) -> bool:
    return error.code() in {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
    }
