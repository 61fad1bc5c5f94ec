"""Reads a changelog topic from its start to its end."""

from __future__ import annotations

from collections.abc import Iterator

from confluent_kafka import Consumer, TopicPartition


def changelog(bootstrap: str, topic: str) -> Iterator[tuple[bytes, bytes | None]]:
    """All committed records (key, value) of all partitions, each partition in order."""
    config = {"bootstrap.servers": bootstrap, "group.id": "dump", "enable.auto.commit": False}
    consumer = Consumer(config | {"isolation.level": "read_committed", "enable.partition.eof": False})
    try:
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), 30)[1] for p in partitions}
        left = {p for p, end in ends.items() if end}
        consumer.assign([TopicPartition(topic, p, 0) for p in left])
        while left:
            for message in consumer.consume(10_000, 1):
                yield message.key(), message.value()
            for place in consumer.position([TopicPartition(topic, p) for p in left]):
                if place.offset >= ends[place.partition]:
                    left.discard(place.partition)
    finally:
        consumer.close()
