"""Where a digest reads its records: RocksDB directories, changelog topics, feeds in Redis or on disk."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from redis.exceptions import RedisError

from streams.concerns import KafkaSettings, RedisSettings
from streams.durable import POSITION_KEY
from streams.errors import ExitCode, OperatorError
from streams.store import ShardStore
from streams.watermarks import watermarks
from topologies.digest import Digest, TableDigest, record_hash
from topologies.replay.feeds import decode_head, encode_head, feed_key
from topologies.row_format import item_rows_of_today
from wire.names import SURFACES, Namespace

ANSWER_S = 10.0
SILENT_S_MAX = 60.0
POLL_S = 0.2
"""A call waits so long for its last messages, whatever has come."""
CONSUME_RECORDS = 10_000
HEADS_AT_ONCE = 500
USER_TAGS = (b"u", b"s", b"g")
ITEM_TAGS = (b"i",)
SNAPSHOTS = b"snapshots"
"""A field of a head that tells of readers, not of the feed."""


def digest_stores(paths: Iterator[Path], tags: tuple[bytes, ...]) -> TableDigest:
    """Of rows in RocksDB directories that nobody has open. Raises OperatorError (data directory)."""
    found = TableDigest()
    for path in paths:
        store = ShardStore(path)
        try:
            for chunk in itertools.chain.from_iterable(store.scan(tag) for tag in tags):
                found.add(item_rows_of_today(dict(chunk)).items())
        finally:
            store.close()
    return found


def digest_directory(directory: Path) -> Digest | None:
    """Of all rows that lie in a namespace's data directory; None when there are none. Without feeds."""
    users, items = (sorted(directory.glob(f"{name}-*[0-9]")) for name in ("users", "item-rows"))
    if not users:
        return None
    return Digest(0, digest_stores(iter(users), USER_TAGS), digest_stores(iter(items), ITEM_TAGS))


def digest_feed_stores(directory: Path) -> TableDigest:
    """Of the settled feeds that a replay kept on disk."""
    found = TableDigest()
    for path in sorted(directory.glob("feeds-*[0-9]")):
        store = ShardStore(path)
        try:
            for surface in SURFACES:
                for chunk in store.scan(feed_key(surface, "")):
                    found.add((key, encode_head(decode_head(value))) for key, value in chunk)
        finally:
            store.close()
    return found


# -- topics ------------------------------------------------------------------------------------------------


def digest_changelog(kafka: KafkaSettings, topic: str) -> TableDigest:
    """Of the newest committed row of every key. Memory: one partition's keys.

    Raises OperatorError when the topic is missing or the broker does not answer.
    """
    consumer = Consumer(
        kafka.confluent()
        | {
            "log_level": 0,
            "group.id": "feedrank-digest",  # never joined: partitions are assigned by hand
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 20,  # the answer that tells of the end holds nothing
        }
    )
    found = TableDigest()
    try:
        partitions = consumer.list_topics(topic, timeout=ANSWER_S).topics[topic]
        if partitions.error is not None:
            raise OperatorError(
                f"{topic}: {partitions.error.str()}; is the namespace right? `feedrank topics check` lists "
                "what there is",
                ExitCode.TOPICS_WRONG,
            )
        for partition in sorted(partitions.partitions):
            hashes = _newest(consumer, topic, partition)
            found.merge(TableDigest(len(hashes), sum(hashes.values())))
    except KafkaException as error:
        raise OperatorError(
            f"Kafka at {kafka.bootstrap_servers} does not answer ({error.args[0].str()}); check "
            "KAFKA_BOOTSTRAP_SERVERS",
            ExitCode.BROKER_UNREACHABLE,
        ) from error
    finally:
        consumer.close()
    return found


def _newest(consumer: Consumer, topic: str, partition: int) -> dict[bytes, int]:
    """Hash of each key's newest record in one partition, as of now."""
    end = watermarks(consumer, TopicPartition(topic, partition), ANSWER_S)[1]
    consumer.assign([TopicPartition(topic, partition, 0)])
    found: dict[bytes, int] = {}
    heard_s = time.monotonic()
    while end:
        messages = consumer.consume(CONSUME_RECORDS, POLL_S)
        if messages:
            heard_s = time.monotonic()
        elif time.monotonic() - heard_s > SILENT_S_MAX:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        for message in messages:
            error, key, value = message.error(), message.key() or b"", message.value()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    return found
                raise KafkaException(error)
            if key == POSITION_KEY:
                continue
            if value is None:
                found.pop(key, None)
            else:
                found[key] = record_hash(key, item_rows_of_today({key: value})[key])
    return found


# -- Redis -------------------------------------------------------------------------------------------------


def digest_heads(settings: RedisSettings, names: Namespace, as_of_ms: int | None) -> tuple[int, TableDigest]:
    """Of the feeds settled at `as_of_ms` (None: at the newest time that any feed has), and that time.

    Raises OperatorError when Redis does not answer.
    """
    kind: Any = redis.RedisCluster if settings.cluster else redis.Redis
    client = kind.from_url(settings.address, socket_timeout=settings.timeout_ms / 1_000)
    try:
        found: dict[int, TableDigest] = {}
        for surface in SURFACES:
            for at_ms, key, value in _heads(client, names, surface):
                if as_of_ms in (None, at_ms):
                    found.setdefault(at_ms, TableDigest()).add([(key, value)])
    except (RedisError, OSError) as error:
        raise OperatorError(
            f"Redis: {str(error).rstrip('.')}; check REDIS_URL", ExitCode.REDIS_UNREACHABLE
        ) from error
    finally:
        client.close()
    newest_ms = max(found, default=0) if as_of_ms is None else as_of_ms
    return newest_ms, found.get(newest_ms, TableDigest())


def _heads(client: Any, names: Namespace, surface: str) -> Iterator[tuple[int, bytes, bytes]]:
    """When it was made, key and value of each feed; heads that go away meanwhile are left out."""
    prefix = names.feed(surface, "").removesuffix("}").encode()
    keys = (
        key
        for key in client.scan_iter(match=prefix + b"*}", count=CONSUME_RECORDS)
        if key.startswith(prefix) and key.endswith(b"}")
    )
    while some := list(itertools.islice(keys, HEADS_AT_ONCE)):
        pipe = client.pipeline(transaction=False)
        for key in some:
            pipe.hgetall(key)
        for key, head in zip(some, pipe.execute(), strict=True):
            if head:
                head.pop(SNAPSHOTS, None)
                user = key[len(prefix) : -1].decode()
                yield int(head[b"generated_at"]), feed_key(surface, user), encode_head(head)
