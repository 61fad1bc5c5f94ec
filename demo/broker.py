"""The embedded Kafka's process: prints its address, then serves until it is told to stop or orphaned."""

from __future__ import annotations

import os
import signal
import sys
import threading

from confluent_kafka import Producer

ORPHAN_CHECK_S = 1.0


def main() -> None:
    """Run a mock cluster of one broker with 4 partitions per new topic."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    parent = os.getppid()
    owner = Producer({"bootstrap.servers": "", "test.mock.num.brokers": 1, "log_level": 0})
    brokers = owner.list_topics(timeout=10).brokers.values()
    sys.stdout.write(",".join(f"{b.host}:{b.port}" for b in brokers) + "\n")
    sys.stdout.flush()
    while os.getppid() == parent and not stopped.wait(ORPHAN_CHECK_S):
        owner.poll(0)


if __name__ == "__main__":
    main()
