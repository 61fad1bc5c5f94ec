"""A shadow becomes a namespace that workers can own (2, 4, 5): its rows go into changelogs of its own.

Afterwards a worker finds there what it would have left behind, had it been live all the time: rows, positions
at the end of the range, item statistics of the settled tick. One topic that workers need is made last, so
that none starts on half of it; until then all of it may be done again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from models.policy import parse_policy
from streams.concerns import KafkaSettings
from streams.durable import POSITION_KEY
from streams.errors import ExitCode, OperatorError
from streams.store import ShardStore
from streams.topics_admin import TopicsAdmin
from streams.watermarks import watermarks
from topologies.digest_sources import ITEM_TAGS, USER_TAGS
from topologies.item_shard import MARKER_KEY
from topologies.replay.models import place_models
from topologies.replay.shadow import Definition, Shadow
from topologies.replay.steps import derived_records
from topologies.ticks import tick_marker, tick_of
from wire.names import ACTIVITIES

ANSWER_S = 10.0
SETTLING_S = 30.0
SETTLING_PAUSE_S = 0.2
SETTLING = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_PARTITION,
    }
)
"""What brokers say of a topic that was made a moment ago."""
FLUSH_S = 120.0
QUEUE_POLL_S = 0.1
SEEDED_FILE = "seeded"
POLICY_FILE = "policy.toml"

Record = tuple[bytes, bytes]


@dataclass(slots=True)
class Seeder:
    """`told(n)` hears of records that were handed over."""

    kafka: KafkaSettings
    shadow: Shadow
    definition: Definition
    told: Callable[[int], None] = lambda count: None
    _failed: KafkaError | None = None
    _producer: Producer | None = None

    @property
    def done(self) -> bool:
        """Whether it was done before."""
        return (self.shadow.directory / SEEDED_FILE).exists()

    def seed(self) -> None:
        """Raises OperatorError: the range has left the log, the namespace has rows of another, no answer."""
        one, names = self.definition, self.definition.names
        admin = TopicsAdmin(self.kafka, names)
        self._demand_partitions(admin.partitions(ACTIVITIES))
        admin.create(but=(names.served,))
        try:
            self._demand_positions_in_log()
            self._demand_empty((names.item_deltas,))
            for partition in range(one.partitions):
                self._users(partition)
                self._items(partition)
        except KafkaException as error:
            raise self._unreachable(error.args[0].str()) from error
        (self.shadow.directory / POLICY_FILE).write_text(one.policy, encoding="utf-8")
        place_models(self.shadow, parse_policy(one.policy, str(self.shadow.directory)))
        admin.create()
        (self.shadow.directory / SEEDED_FILE).touch()

    # -- what must be so -------------------------------------------------------------------------------

    def _demand_partitions(self, there: int) -> None:
        wanted = self.definition.partitions
        if wanted == there:
            return
        todo = (
            f"let producers rest, then raise it: kafka-topics.sh --alter --topic {ACTIVITIES} --partitions "
            f"{wanted}, and catch up again"
            if there < wanted
            else "Kafka cannot take partitions away: replay into a namespace that has as many"
        )
        raise OperatorError(
            f"{self.definition.namespace} has {wanted} partitions, {ACTIVITIES} has {there}; {todo}",
            ExitCode.TOPICS_WRONG,
        )

    def _demand_positions_in_log(self) -> None:
        for partition, (low, high) in self._bounds(ACTIVITIES).items():
            end = self.definition.resume(partition)
            if not low <= end <= high:
                raise OperatorError(
                    f"{self.definition.namespace} ends at offset {end} of {ACTIVITIES} partition "
                    f"{partition}, which holds {low} to {high}: what lies between is gone. Replay again, to "
                    "a later time",
                    ExitCode.POSITION_OUTSIDE_LOG,
                )

    def _demand_empty(self, topics: Iterable[str]) -> None:
        for topic in topics:
            if any(high for _, high in self._bounds(topic).values()):
                raise OperatorError(
                    f"{topic} is in use already: a worker of {self.definition.namespace} has been at work. "
                    "Start workers of it as they are, or replay into another namespace",
                    ExitCode.TOPICS_WRONG,
                )

    def _bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        consumer = Consumer(self.kafka.confluent() | {"log_level": 0, "group.id": "feedrank-replay"})
        try:
            found = consumer.list_topics(topic, timeout=ANSWER_S).topics[topic].partitions
            return {p: _bounds_of(consumer, TopicPartition(topic, p)) for p in found}
        finally:
            consumer.close()

    # -- rows ------------------------------------------------------------------------------------------

    def _users(self, partition: int) -> None:
        store = ShardStore(self.shadow.users(partition))
        try:
            position = self._position(store)
            position["position"] = self.definition.resume(partition)
            position["watermark_ms"] = max(position["watermark_ms"], self.definition.as_of_ms)
            self._send_store(self.definition.names.users_changelog, partition, store, USER_TAGS, position)
        finally:
            store.close()

    def _items(self, partition: int) -> None:
        """Deltas of before are in the rows: their topic begins empty, at the tick and time of settling."""
        one, names = self.definition, self.definition.names
        tick = tick_of(one.as_of_ms, one.tick_ms)
        keys, values = derived_records(self.shadow.features(partition).read_bytes())
        positions = [one.resume(p) for p in range(one.partitions)]
        marker = tick_marker(tick, one.as_of_ms, positions, partition)
        self._send(names.item_features, partition, zip(keys, values, strict=True))
        self._send(names.item_features, partition, [(MARKER_KEY, marker)])
        mine = {str(p): end for p, end in one.items_ends.items() if p % one.partitions == partition}
        store = ShardStore(self.shadow.item_rows(partition))
        try:
            position = self._position(store) | {
                "position": 0,
                "watermarks_ms": [one.as_of_ms] * one.partitions,
                "positions": positions,
                "closed_tick": tick,
                "items_next": mine,
            }
            self._send_store(names.item_rows_changelog, partition, store, ITEM_TAGS, position)
        finally:
            store.close()

    def _position(self, store: ShardStore) -> dict[str, Any]:
        found = store.get(POSITION_KEY)
        if found is None:
            raise OperatorError(
                f"{store.path} holds no rows; its replay is not whole: resume its job",
                ExitCode.DATA_DIRECTORY,
            )
        return dict(orjson.loads(found))

    def _send_store(
        self, topic: str, partition: int, store: ShardStore, tags: tuple[bytes, ...], position: dict[str, Any]
    ) -> None:
        """Rows, then the position; then tell the store that the changelog holds all of it."""
        record = orjson.dumps(position)
        for tag in tags:
            for chunk in store.scan(tag):
                self._send(topic, partition, chunk)
        end = self._send(topic, partition, [(POSITION_KEY, record)])
        store.write([(POSITION_KEY, record)], changelog_next=end)

    def _send(self, topic: str, partition: int, records: Iterable[Record]) -> int:
        """Hand over and wait for all; the offset after the last of them (0: there were none)."""
        producer, end, count = self._connected(), 0, 0

        def delivered(error: KafkaError | None, message: Message) -> None:
            nonlocal end
            if error:
                self._failed = self._failed or error
            else:
                end = max(end, (message.offset() or 0) + 1)

        for key, value in records:
            while True:
                try:
                    producer.produce(topic, value, key, partition, on_delivery=delivered)
                    break
                except BufferError:
                    producer.poll(QUEUE_POLL_S)
            count += 1
        left = producer.flush(FLUSH_S)
        if left or self._failed:
            raise self._unreachable(self._failed.str() if self._failed else f"{left} records not taken")
        self.told(count)
        return end

    def _connected(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(
                {
                    **self.kafka.confluent(),
                    "log_level": 0,
                    "acks": "all",
                    "enable.idempotence": True,
                    "compression.type": "lz4",
                    "linger.ms": 5,
                }
            )
        return self._producer

    def _unreachable(self, why: str) -> OperatorError:
        return OperatorError(
            f"Kafka at {self.kafka.bootstrap_servers} does not take the shadow's rows ({why}); check the "
            "brokers and try again: no worker can start on half of them",
            ExitCode.BROKER_UNREACHABLE,
        )


def _bounds_of(consumer: Consumer, at: TopicPartition) -> tuple[int, int]:
    deadline_s = time.monotonic() + SETTLING_S
    while True:
        try:
            found = watermarks(consumer, at, ANSWER_S)
        except KafkaException as error:
            if error.args[0].code() not in SETTLING or time.monotonic() > deadline_s:
                raise
            time.sleep(SETTLING_PAUSE_S)
        else:
            return found
