"""Replays of a live job's topics beside it, killed in the middle: the same digest, and it is not touched."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import redis

from feedrank.load.events import Event
from streams.errors import ExitCode
from streams.topics_admin import TopicsAdmin
from tests.integration.job import Job
from tests.oracle import digest as oracle
from tests.oracle.feeds import World
from tests.waiting import slowness, started, until

COMMAND_S = 600
STILL_S = 3.0
LIVE = "-live"
TICK_MS = 10_000


def feedrank(job: Job, *arguments: str, namespace: str = "") -> str:
    """A command in the environment of a job, with a data directory for shadows; its output."""
    done = subprocess.run(
        [sys.executable, "-m", "feedrank.cli", *arguments],
        env=environment(job) | ({"FEEDRANK_NAMESPACE": namespace} if namespace else {}),
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def environment(job: Job) -> dict[str, str]:
    return job.environment(FEEDRANK_DATA_DIR=str(job.directory / "shadows"))


def digest_of(job: Job, namespace: str, *arguments: str) -> str:
    return digested(job, namespace, *arguments)[1]


def digested(job: Job, namespace: str, *arguments: str) -> tuple[str, str]:
    """A namespace's tables and its digest."""
    said = feedrank(job, "digest", namespace, *arguments)
    found = re.search(r"^(users .*\nitems .*\nfeeds .*\n)as_of .*\ndigest ([0-9a-f]{64})$", said, re.M)
    assert found, said
    return found[1], found[2]


def beside(job: Job, name: str) -> str:
    """A namespace beside the live one, which ends in LIVE."""
    return job.namespace.removesuffix(LIVE) + f"-{name}"


def replays_have_the_same_digest(job: Job, expected: str, as_of_ms: int) -> None:
    """Live, replayed in two processes that are killed and taken up again, and in one without a pause."""
    assert digest_of(job, job.namespace, "--as-of-ms", str(as_of_ms)) == expected
    before, cut, whole = at_rest(job), beside(job, "cut"), beside(job, "whole")
    job_id = killed(job, cut, "--to", str(as_of_ms), "--jobs", "2")
    if "finished" not in feedrank(job, "jobs", "show", job_id):
        assert "finished" in feedrank(job, "jobs", "resume", job_id)
    assert digest_of(job, cut) == expected
    feedrank(job, "replay", "--into", whole, "--to", str(as_of_ms))
    assert digest_of(job, whole) == expected
    refused(job, job.namespace, "holds rows of a worker")
    refused(job, whole, "Redis holds feeds of it")
    changed = differing(everything_of(job), before)
    assert not changed, f"{len(changed)} things of the live job changed, {changed[:9]}"


def at_rest(job: Job) -> dict[str, object]:
    """What the live job has once it changes no more by itself: after settling, it still ranks who was due."""
    seen = [everything_of(job)]

    def still() -> bool:
        time.sleep(STILL_S * slowness())
        seen.append(everything_of(job))
        return not differing(seen[-1], seen[-2])

    until(still, "the live job is at rest", lambda: len(seen))
    return seen[-1]


def differing(one: dict[str, object], other: dict[str, object]) -> list[str | bytes]:
    return [key for key in one.keys() | other.keys() if one.get(key) != other.get(key)]


def refused(job: Job, into: str, why: str) -> None:
    """A namespace that somebody uses, seen from an installation with another name."""
    done = subprocess.run(
        [sys.executable, "-m", "feedrank.cli", "replay", "--into", into],
        env=environment(job) | {"FEEDRANK_NAMESPACE": "other"},
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
    )
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert why in done.stderr


def a_shadow_catches_up(job: Job, later: list[Event], as_of_ms: int, world: World) -> None:
    """The shadow `whole` goes on live: what comes later leads it to where the live job and the oracle are."""
    whole = beside(job, "whole")
    assert "its rows are in its topics" in feedrank(job, "catch-up", whole, "--seed-only")
    assert "workers of it start with" in feedrank(job, "catch-up", whole, "--seed-only")
    assert digest_of(job, whole, "--rows", "topics") == digest_of(job, whole)
    policy = str(job.directory / "shadows" / whole / "policy.toml")
    more = {"FEEDRANK_NAMESPACE": whole, "FEEDRANK_POLICY": policy}
    job.start_worker(**more, FEEDRANK_DATA_DIR=str(job.directory / "shadows"))
    job.start_worker(**more)  # from the topics alone
    job.load(later)
    settled = world.settled(as_of_ms, TICK_MS)
    wanted = oracle.tables(world, settled)
    for namespace in (job.namespace, whole):
        feedrank(job, "settle", "--as-of-ms", str(as_of_ms), namespace=namespace)
        made, found = digested(job, namespace, "--as-of-ms", str(settled.as_of_ms), "--rows", "topics")
        assert made == wanted, namespace
        assert found == oracle.digest_of(wanted)


def killed(job: Job, into: str, *arguments: str) -> str:
    """Begin a replay, kill -9 its first process once there are rows of it, if it is not done by then; the
    job's id."""
    command = [sys.executable, "-m", "feedrank.cli", "replay", "--into", into, *arguments]
    folder = job.directory / "shadows" / into
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with started(command, env=environment(job), **how) as process:
        said = next((line for line in process.stdout or () if line.startswith("job ")), "")
        until(lambda: process.poll() is not None or any(folder.glob("*/CURRENT")), "rows are written")
    return said.split()[1]


def everything_of(job: Job) -> dict[str, object]:
    """What a replay must not touch: ends of the namespace's topics and of the public ones, keys and values in
    Redis."""
    found: dict[str, object] = dict(job.newest(job.names.users_changelog))
    admin = TopicsAdmin(job.kafka, job.names)
    for topic in sorted(admin.check().found):
        if topic.startswith(f"feedrank.{job.namespace}.") or topic.count(".") == 1:
            found[topic] = job.ends(topic)
    found.pop("feedrank.jobs", None)
    client = redis.Redis.from_url(job.redis_url)
    for key in client.scan_iter(match=f"*{job.namespace}*", count=10_000):
        if key.startswith(b"feed:") and b"{" not in key:
            continue  # a fallback: the live job writes it anew every minute
        kind = client.type(key)
        found[key.decode()] = client.hgetall(key) if kind == b"hash" else kind
    client.close()
    return found
