"""A Kafka that is given is left as it was, and one that somebody uses is not touched."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import AdminClient

from streams.topics_admin import TopicsAdmin
from tests.lent_topics import TopicsTaken, lent_topics
from tests.services import Kafka, create_topic
from tests.streams.test_topics import kafka_at
from tests.waiting import GUARD_S
from wire.names import ACTIVITIES, Namespace


@pytest.mark.kafka
def test_topics_that_came_are_deleted_and_those_of_others_are_refused(private_kafka: Kafka) -> None:
    def topics() -> set[str]:
        return {name for name in admin.list_topics(timeout=GUARD_S).topics if not name.startswith("__")}

    bootstrap, admin = private_kafka.bootstrap, AdminClient({"bootstrap.servers": private_kafka.bootstrap})
    others = {create_topic(bootstrap, "orders"), create_topic(bootstrap, "feedrank.old.served")}
    for _ in range(2):  # the names are free again at once
        with lent_topics(bootstrap):
            TopicsAdmin(kafka_at(bootstrap), Namespace("lent")).create(partitions=2)
            assert ACTIVITIES in topics()
        assert topics() == others
    create_topic(bootstrap, ACTIVITIES)
    with (
        pytest.raises(TopicsTaken, match=f"has {ACTIVITIES};.*name a Kafka without them"),
        lent_topics(bootstrap),
    ):
        pytest.fail("it was lent")
    assert topics() == {*others, ACTIVITIES}
