"""From 4 partitions to 6: a replay into a new namespace, catch-up, promote; what is refused on the way."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions

from feedrank.load.events import Event
from streams.errors import ExitCode
from tests.integration.job import Job
from tests.integration.replays import COMMAND_S, digest_of, environment, feedrank
from tests.integration.test_oracle import as_event, done_later, told
from tests.oracle.digest import digest
from tests.oracle.feeds import World
from tests.oracle.made_up import Size, Stream
from tests.services import Redis
from tests.shadows import BUNDLED, TICK_MS
from tests.waiting import GUARD_S
from wire.names import ACTIVITIES
from wire.partitioner import partition_of

OLD, NEW = 4, 6


def refused(job: Job, code: ExitCode, why: str, *arguments: str) -> None:
    """A command that ends with this code, and says this in its one message."""
    done = subprocess.run(
        [sys.executable, "-m", "feedrank.cli", *arguments],
        env=environment(job),
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
    )
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    said = [line for line in done.stderr.splitlines() if line.startswith("feedrank: ")]
    assert len(said) == 1
    assert re.search(why, said[0]), said


def told_of(events: list[Event], later: Sequence[Event], ends: dict[int, int]) -> World:
    """The oracle of the new namespace: it goes on where the old partitions end, and in new ones from 0."""
    world = told([*events, *later], BUNDLED, NEW)
    for partition, shard in enumerate(world.shards):
        came = sum(partition_of(event.key.encode(), NEW) == partition for event in later)
        shard.position = ends.get(partition, 0) + came
    return world


def tables(job: Job, namespace: str, *arguments: str) -> list[str]:
    """What a digest says of users and items; neither knows of partitions."""
    return feedrank(job, "digest", namespace, *arguments).splitlines()[:2]


@pytest.mark.kafka
def test_a_namespace_of_more_partitions_takes_over(
    public_kafka: str, private_redis: Redis, tmp_path: Path
) -> None:
    stream = Stream(11, Size(activities=1_500, items=200, users=40, changing=False))
    events = [as_event(event) for event in stream.events]  # type: ignore[arg-type]
    as_of_ms = -(-stream.end_ms // TICK_MS) * TICK_MS
    with Job(public_kafka, private_redis.url, tmp_path, "four") as job:
        job.create_topics(OLD)
        job.load(events)
        worker = job.start_worker()
        job.settle(as_of_ms)
        assert worker.stop() == ExitCode.OK
        feedrank(job, "replay", "--into", "six", "--partitions", str(NEW), "--to", str(as_of_ms))
        ends = job.ends(ACTIVITIES)
        world = told_of(events, [], ends)
        assert digest_of(job, "six") == digest(world, world.settled(as_of_ms, TICK_MS))
        assert tables(job, "six")[0] == tables(job, "four")[0]
        nobody_is_sent_astray(job)

        refused(job, ExitCode.TOPICS_WRONG, "six has 6 .* has 4; let producers rest", "catch-up", "six")
        admin = AdminClient(job.kafka.confluent())
        admin.create_partitions([NewPartitions(ACTIVITIES, NEW)])[ACTIVITIES].result(GUARD_S)
        feedrank(job, "catch-up", "six", "--seed-only")
        policy = str(tmp_path / "shadows" / "six" / "policy.toml")
        job.start_worker(FEEDRANK_NAMESPACE="six", FEEDRANK_POLICY=policy)
        later = done_later(events, as_of_ms)
        job.load(later)
        end_ms = -(-(later[-1].time_ms + 1) // TICK_MS) * TICK_MS
        feedrank(job, "settle", "--as-of-ms", str(end_ms), namespace="six")
        world = told_of(events, later, ends)
        expected = digest(world, world.settled(end_ms, TICK_MS))
        assert digest_of(job, "six", "--rows", "topics", "--as-of-ms", str(end_ms)) == expected
        refused(job, ExitCode.NOT_READY, "six has .* feeds, four has", "promote", "six", "--smaller-max", "0")
        promoted = feedrank(job, "promote", "six", "--smaller-max", "0.2")  # four kept feeds of the inactive
        assert "six" in promoted.partition("now:")[2]
        assert "six" in feedrank(job, "route", "show").splitlines()[0]
        refused(
            job,
            ExitCode.TOPICS_WRONG,
            "another number of partitions",
            "state",
            "verify",
            "--namespace",
            "six",
        )
        a_compacted_topic_is_refused(job)


def nobody_is_sent_astray(job: Job) -> None:
    """Readers go to no namespace that is not there, or whose replay is not at its end."""
    refused(job, ExitCode.NOT_READY, "there is no namespace nowhere", "promote", "nowhere")
    refused(job, ExitCode.USAGE, "there is no replay in", "catch-up", "nowhere")
    feedrank(job, "replay", "--into", "begun", "--submit")
    why = "the replay into begun is submitted.*jobs resume"
    refused(job, ExitCode.NOT_READY, why, "promote", "begun")
    refused(job, ExitCode.NOT_READY, why, "route", "canary", "begun", "--share", "0.1")
    refused(job, ExitCode.BAD_INPUT, "the replay into begun is submitted, not finished", "catch-up", "begun")


def a_compacted_topic_is_refused(job: Job) -> None:
    entry = ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, ACTIVITIES, incremental_configs=[entry])
    admin = AdminClient(job.kafka.confluent())
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(GUARD_S)
    refused(job, ExitCode.TOPICS_WRONG, "is compacted: records of it are gone", "replay", "--into", "late")
