"""Where partitions begin and end, asked of a broker that may just be choosing their leaders."""

from __future__ import annotations

import time
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException, TopicPartition

PAUSE_S = 0.1
_NO_LEADER_YET = {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE}


class Asked(Protocol):
    """confluent_kafka.Consumer, as far as it is needed here."""

    def get_watermark_offsets(self, partition: TopicPartition, timeout: float) -> tuple[int, int]: ...


def watermarks(consumer: Asked, at: TopicPartition, timeout_s: float) -> tuple[int, int]:
    """Start and end of a partition; for `timeout_s` it asks again while nobody leads it, as in the moments
    after a topic was made or got more partitions. Raises KafkaException."""
    until_s = time.monotonic() + timeout_s
    while True:
        try:
            return consumer.get_watermark_offsets(at, timeout=timeout_s)
        except KafkaException as error:
            if error.args[0].code() not in _NO_LEADER_YET or time.monotonic() > until_s:
                raise
        time.sleep(PAUSE_S)
