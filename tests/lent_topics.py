"""A Kafka that somebody runs, lent to one test at a time: its public topics are the test's, then deleted.

with lent_topics("broker:9092"):
    TopicsAdmin(...).create(4)
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka.admin import AdminClient

from tests.services import ROOT
from tests.waiting import GUARD_S, until
from wire.names import ACTIVITIES, DEAD_LETTERS, ITEMS, JOBS

PUBLIC = {ACTIVITIES, DEAD_LETTERS, ITEMS, JOBS}
OURS = "feedrank."


class TopicsTaken(Exception):  # noqa: N818
    """Somebody's topics are there; the text says which and what to do."""


@contextmanager
def lent_topics(bootstrap: str) -> Iterator[None]:
    """Deletes whatever feedrank topics came meanwhile. Raises TopicsTaken where public ones are there."""
    lock = ROOT / "build" / "lent-topics.lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # pytest-xdist: another process of this run has them
        admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        before = _names(admin)
        if taken := sorted(before & PUBLIC):
            raise TopicsTaken(
                f"the Kafka of KAFKA_BOOTSTRAP_SERVERS has {', '.join(taken)}; tests need topics of these "
                "names for themselves and delete them: name a Kafka without them, or delete them if they are "
                "what a test run that was killed has left"
            )
        try:
            yield
        finally:
            _delete(admin, before)


def _delete(admin: AdminClient, before: set[str]) -> None:
    new = {name for name in _names(admin) - before if name.startswith(OURS)}
    if not new:
        return
    for done in admin.delete_topics(sorted(new)).values():
        done.result(GUARD_S)
    until(lambda: not new & _names(admin), "the topics of the test are gone")


def _names(admin: AdminClient) -> set[str]:
    return set(admin.list_topics(timeout=GUARD_S).topics)
