"""The cases: each drives the scene's worker and says what was seen; what did not hold is in `wrong`."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import redis

from benchmarks.worker import Scrape, quantile
from serving.reader import FeedReader
from tests.hard.load import Act
from tests.hard.scene import PARTITIONS, Scene
from tests.waiting import until

FRESHNESS = "event_to_redis_seconds"
CROWD_WATCHED = [f"c-{n}" for n in range(0, 2_000, 10)]
FAVOURITE = "favourite"
WATCHED = [FAVOURITE, *(f"f-{n}" for n in range(0, 1_000, 5)), *(f"b-{n}" for n in range(0, 1_000, 10))]
FOLLOWERS_MAX = 1_000_000
GROWTH_MAX = 1.1
"""Memory in the second half of the crowd beside memory halfway: what grows with every user shows there, and
the buffers of RocksDB, which fill after the arena, do not."""
LIGHT_PER_S, LIGHT_S = 40, 4
IDLE_S = 0.5
LOOK_S = 0.25


def crowd(scene: Scene, users: int) -> Iterator[str]:
    """So many distinct users go through one worker whose arena holds a fraction of them; rows come back right
    after eviction. The first of them follow one author, who then posts."""
    full = scene.arena_rows * PARTITIONS
    assert users > 2 * full, "the arena has to be full for most of it"
    began, cpu, sizes = time.monotonic(), scene.cpu_s(), []
    for first in range(0, users, full):
        scene.load.send(
            (f"c-{n}", "follow", "star") if n < FOLLOWERS_MAX else (f"c-{n}", "impression", scene.item())
            for n in range(first, min(first + full, users))
        )
        scene.drain()
        sizes.append(scene.resident_mb())
    seconds, cpu = time.monotonic() - began, scene.cpu_s() - cpu
    half = len(sizes) // 2
    scene.demand(max(sizes[half:]) <= sizes[half - 1] * GROWTH_MAX, f"memory grows: {sizes}")
    yield (
        f"crowd: {users:,} users in {seconds:.0f} s ({cpu / users * 1e6:.1f} us of CPU each), rows for "
        f"{full:,} in memory: {sizes[0]:.0f} MB with the arena full, {sizes[half - 1]:.0f} MB halfway, "
        f"{sizes[-1]:.0f} MB at the end, {max(sizes):.0f} MB at most"
    )
    scene.load.send((user, "like", scene.item()) for user in CROWD_WATCHED for _ in range(5))
    scene.drain()
    yield from _star_posts(scene, min(users, FOLLOWERS_MAX))


def _star_posts(scene: Scene, followers: int) -> Iterator[str]:
    before = scene.scrape()
    began = time.monotonic()
    name = f"star-{followers}"
    scene.post("star", name)
    until(lambda: scene.scrape().total("items") > before.total("items"), "the item is in the index")
    fan = CROWD_WATCHED[0]
    with closing(FeedReader.from_url(scene.job.redis_url, namespace=scene.job.namespace)) as reader:

        def shown() -> bool:
            scene.load.send([(fan, "visit", "feed")])
            page = reader.page(fan, surface="following", limit=20, record=False)
            return any(entry.id == name for entry in page.entries)

        until(shown, "a follower who visits sees it")
    after = scene.scrape()
    made_due = after.total("due_total", reason="new_item") - before.total("due_total", reason="new_item")
    yield (
        f"author with {followers:,} followers posts: {made_due:.0f} made due at once, seen at a visit after "
        f"{time.monotonic() - began:.1f} s; longest hold of the loop {_hold_ms(before, after):.0f} ms at most"
    )


def favourite(scene: Scene, activities: int) -> Iterator[str]:
    """The same load without and with one user who does a fifth of it."""
    found = []
    for share in (0.0, 0.2):
        acts = list(_acts(scene, activities, "f", share))
        before, began, cpu = scene.scrape(), time.monotonic(), scene.cpu_s()
        scene.load.send(acts)
        scene.drain()
        found.append((time.monotonic() - began, scene.cpu_s() - cpu, _hold_ms(before, scene.scrape())))
    (wall, cpu, hold), (its_wall, its_cpu, its_hold) = found
    yield (
        f"one user with 20 % of {activities:,} activities: {its_wall:.1f} s and "
        f"{its_cpu / activities * 1e6:.1f} us of CPU each, longest hold {its_hold:.0f} ms at most; without "
        f"such a user {wall:.1f} s, {cpu / activities * 1e6:.1f} us, {hold:.0f} ms"
    )


def burst(scene: Scene, pause_s: float, calibration: int) -> Iterator[str]:
    """Redis stands still for `pause_s`, and for all of that time ten times the sustained rate comes."""
    _idle(scene)
    sustained = _sustained(scene, calibration)
    _idle(scene)
    calm, before_mb = _light(scene), scene.resident_mb()
    peak = _Peak(scene)
    peak.start()
    with scene.load.packed(_acts(scene, int(10 * sustained * pause_s), "b"), PARTITIONS) as flood:
        began, start = time.monotonic(), scene.scrape()
        os.kill(scene.redis.pid, signal.SIGSTOP)
        try:
            count, sent_s = flood.send(per_s=10 * sustained)
            scene.load.send(_visits(int(LIGHT_PER_S * 2)), per_s=LIGHT_PER_S)
            until(lambda: time.monotonic() - began >= pause_s, "the pause is over")
        finally:
            os.kill(scene.redis.pid, signal.SIGCONT)
    scene.drain()
    _idle(scene)
    recovered_s = time.monotonic() - began - pause_s
    risen = quantile(start, scene.scrape(), FRESHNESS, 0.99)
    peak.ended.set()
    peak.join()
    again = _light(scene)
    yield (
        f"Redis away for {pause_s:.0f} s, {count:,} activities within {sent_s:.0f} s of it "
        f"({count / sent_s / sustained:.1f} times the sustained {sustained:,.0f}/s): memory "
        f"{before_mb:.0f} MB before, {peak.mb:.0f} MB at most; all applied and all feeds written "
        f"{recovered_s:.1f} s after Redis came back; freshness p99 {calm:.2f} s, then {risen:.1f} s, then "
        f"{again:.2f} s"
    )
    scene.demand(risen > calm, f"the freshness metric did not rise: {calm} and {risen} s")
    scene.demand(again < max(4 * calm, 1.0), f"freshness did not recover: {calm} s before, {again} s after")


def refill(scene: Scene, users: int) -> Iterator[str]:
    """Redis comes back empty: feeds of all active users are written again."""
    scene.load.send((f"r-{n}", "like", scene.item()) for n in range(users))
    scene.drain()
    until(lambda: _feeds(scene, users) >= users, "everybody has a feed", lambda: _feeds(scene, users))
    _idle(scene)
    expected = _feeds(scene, users)
    applied = _applied(scene.scrape())
    scene.redis.kill()
    began, cpu = time.monotonic(), scene.cpu_s()
    scene.redis.start()
    until(lambda: _feeds(scene, expected) >= expected, "everybody again", lambda: _feeds(scene, expected))
    seconds, cpu = time.monotonic() - began, scene.cpu_s() - cpu
    replayed = _applied(scene.scrape()) - applied
    scene.demand(not replayed, f"{replayed} activities were applied again")
    yield (
        f"Redis came back empty with {expected:,} active users: all feeds written again after "
        f"{seconds:.0f} s ({expected / seconds:,.0f} users/s; {cpu:.0f} CPU-s, {expected / cpu:,.0f} "
        "users/CPU-s), nothing replayed"
    )


def _feeds(scene: Scene, wanted: int) -> int:
    """How many users have a feed; about, and cheaply, while they cannot be as many as `wanted`."""
    with redis.Redis.from_url(scene.redis.url) as client:
        try:
            keys = int(client.dbsize())  # two surfaces each
            if keys < 2 * wanted:
                return keys // 2
            return int(
                client.eval(
                    "return #redis.call('keys', ARGV[1])", 0, f"feed:{scene.job.namespace}:for_you:{{*}}"
                )
            )
        except redis.RedisError:
            return 0


def _acts(scene: Scene, count: int, name: str, favourite: float = 0.0) -> Iterator[Act]:
    """Of 20,000 users, and a share of them of one more; every twentieth makes its user due."""
    for _ in range(count):
        (verb,) = scene.chance.choices(("impression", "click", "like"), (80, 15, 5))
        user = FAVOURITE if scene.chance.random() < favourite else f"{name}-{scene.chance.randrange(20_000)}"
        yield user, verb, scene.item()


def _sustained(scene: Scene, count: int) -> float:
    """How many a second the worker applies, everybody ranked who is due by them; a first lot warms up."""
    for lot in (count // 4, count):
        began, wanted = time.monotonic(), _applied(scene.scrape()) + lot
        scene.load.send(_acts(scene, lot, "b"))
        until(partial(_keeps_up, scene, wanted), "it keeps up", lambda: _applied(scene.scrape()))
        seconds = time.monotonic() - began
    return count / seconds


def _keeps_up(scene: Scene, wanted: float) -> bool:
    time.sleep(LOOK_S)
    seen = scene.scrape()
    return _applied(seen) >= wanted and not seen.total("due_users")


def _applied(seen: Scrape) -> float:
    return seen.total("activities_total", outcome="applied")


def _visits(count: int) -> Iterator[Act]:
    return ((f"b-{n % 500}", "visit", "feed") for n in range(count))


def _light(scene: Scene) -> float:
    """p99 of freshness under a light load, seconds."""
    before = scene.scrape()
    scene.load.send(_visits(LIGHT_PER_S * LIGHT_S), per_s=LIGHT_PER_S)
    scene.drain()
    _idle(scene)
    return quantile(before, scene.scrape(), FRESHNESS, 0.99)


def _idle(scene: Scene) -> None:
    """Until nobody is due and no feed is on its way."""

    def nothing_moves() -> bool:
        before = scene.scrape()
        time.sleep(IDLE_S)
        after = scene.scrape()
        written = after.total("feeds_total") - before.total("feeds_total")
        return after.total("due_users") == 0 and after.total("redis_up") == 1 and not written

    until(nothing_moves, "nobody is due any more", lambda: scene.scrape().total("feeds_total"))


def _hold_ms(before: Scrape, after: Scrape) -> float:
    """Upper bound of the longest hold of the loop between the two."""
    return quantile(before, after, "loop_hold_seconds", 1.0) * 1_000


class _Peak(threading.Thread):
    """The largest resident set until `ended`."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(name="peak", daemon=True)
        self.mb, self.ended, self._scene = 0.0, threading.Event(), scene

    def run(self) -> None:
        while not self.ended.wait(0.2):
            self.mb = max(self.mb, self._scene.resident_mb())
