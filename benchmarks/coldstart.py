"""Benchmark `coldstart`: what ranking does for people and items that nobody knows yet.

The people of the closed loop (demo.clicks: position bias, noise, hidden tastes), in two halves by hash: one
reads the job's feeds, one the items with most clicks lately. Half of the people are new: no follows and no
past; how their click-through compares is told by how often they have acted so far. A few items come while
people look; how fast they are shown is told of the ranked half. Seeds are whole worlds; intervals are over
seeds.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.closedloop import START_MS, Job, policy_of, spread
from benchmarks.figure import Figure
from benchmarks.place import Place
from demo.clicks import react
from demo.groups import RECENT_ITEMS, SHOWN_KEPT, SLATE_ITEMS
from demo.world import World, WorldItem
from models.evaluation.bootstrap import mean
from models.policy import Policy
from tests.fast_path import FastPath

WORLDS = {"default": 6, "exploration off": 2}
"""By variant of the policy: as many as docs/benchmarks.md tells of. One takes a minute of CPU."""

USERS = 400
PARTITIONS = 2
PAST_MS = 36 * 3_600_000
PAST_SESSIONS = 1_500
FIRST_ITEMS = 500
TURN_MS = 10_000
TURNS = 180
SESSIONS_PER_TURN = 60
TURNS_PER_ITEM = 6
FOLLOWED_TURNS = 90
"""New items of the first half of the turns are followed for this many turns each."""

IMPRESSIONS = 100
ACTED = (0, 1, 3, 6, 11, 21)
"""Begins of the bins of how often somebody acted."""

POPULAR, RANKED = "popular", "ranked"


def half_of(user: str) -> str:
    """By hash of the user's id."""
    return (POPULAR, RANKED)[hashlib.blake2b(user.encode(), digest_size=1).digest()[0] % 2]


@dataclass
class Counts:
    """Of new people, by half and bin of ACTED: impressions and clicks. Of new items (ranked half): when each
    was shown. `shown`: impressions of the ranked half, `shown_new` those of items that came meanwhile."""

    impressions: Counter[tuple[str, int]] = field(default_factory=Counter)
    clicks: Counter[tuple[str, int]] = field(default_factory=Counter)
    times_ms: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    shown: int = 0
    shown_new: int = 0

    def rates(self, half: str) -> list[float]:
        """Click-through by bin."""
        return [self.clicks[half, b] / max(self.impressions[half, b], 1) for b in range(len(ACTED))]


@dataclass
class Cold:
    """One world and one job."""

    seed: int
    policy: Policy

    def __post_init__(self) -> None:
        self.world = World(self.seed, USERS)
        self.rng = np.random.default_rng(self.seed + 1_000)
        self.job = Job(FastPath(self.policy, PARTITIONS, random.Random(self.seed)))
        self.new = {name for n, name in enumerate(self.world.user_ids) if n % 2}
        self.acted: Counter[str] = Counter()
        self.popular: Counter[str] = Counter()
        self.seen: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=SHOWN_KEPT))
        self.counts, self.sent = Counts(), 0

    def run(self) -> Counts:
        """The past, in which only those who are not new act on what was new then; then the turns."""
        for at_ms in spread(FIRST_ITEMS, self.rng):
            self.job.item(self.world.publish(at_ms))
        for user, author in self.world.follows():
            if user not in self.new:
                self._send(user, "follow", author, START_MS - PAST_MS)
        for at_ms in spread(PAST_SESSIONS, self.rng):
            known = [item for item in self.world.items if item.created_ms <= at_ms][-60:]
            size = min(SLATE_ITEMS, len(known))
            slate = [known[int(k)] for k in self.rng.choice(len(known), size, replace=False)]
            self._act(self._someone(known_only=True), slate, at_ms, counted=False)
        for turn in range(TURNS):
            self._turn(turn)
        return self.counts

    def _turn(self, turn: int) -> None:
        now_ms = START_MS + turn * TURN_MS
        self.job.apply()
        self.job.as_of_ms = self.job.path.settle(now_ms)
        if turn % TURNS_PER_ITEM == 0:
            self.job.item(self.world.publish(now_ms))
        for n in range(SESSIONS_PER_TURN):
            at_ms = now_ms + 1 + n * (TURN_MS - 2) // SESSIONS_PER_TURN
            self.job.as_of_ms = max(self.job.as_of_ms, at_ms)
            user = self._someone()
            self._send(self.world.user_ids[user], "visit", "feed", at_ms)
            self._act(user, self._slate(self.world.user_ids[user]), at_ms)

    def _someone(self, known_only: bool = False) -> int:
        user = int(self.rng.integers(1, USERS))
        return user - user % 2 if known_only else user

    def _slate(self, name: str) -> list[WorldItem]:
        """The ranked half is read after the visit, so nobody is without a row."""
        if half_of(name) == RANKED:
            found = [self.world.item(one) for one in self.job.read(name)[0][:SLATE_ITEMS]]
            return [item for item in found if item is not None]
        seen = self.seen[name]
        fresh = [item for item in self.world.items[-RECENT_ITEMS:] if item.item_id not in seen]
        chosen = sorted(fresh, key=lambda item: -self.popular[item.item_id])[:SLATE_ITEMS]
        seen.extend(item.item_id for item in chosen)
        return chosen

    def _act(self, user: int, slate: Sequence[WorldItem], at_ms: int, counted: bool = True) -> None:
        name = self.world.user_ids[user]
        cell = half_of(name), int(np.searchsorted(ACTED, self.acted[name], "right")) - 1
        for one in react(self.world, user, slate, at_ms, self.rng):
            if one.verb == "impression":
                if counted:
                    self._shown(name, cell, one.item_id, at_ms)
            else:
                self.acted[name] += 1
            if one.verb == "click":
                self.popular[one.item_id] += 1
                self.counts.clicks[cell] += counted and name in self.new
            self._send(name, one.verb, one.item_id, at_ms, position=one.position, dwell_ms=one.dwell_ms)

    def _shown(self, name: str, cell: tuple[str, int], item_id: str, at_ms: int) -> None:
        self.counts.impressions[cell] += name in self.new
        if half_of(name) == RANKED:
            item = self.world.item(item_id)
            assert item is not None
            self.counts.shown += 1
            if item.created_ms >= START_MS:
                self.counts.shown_new += 1
                self.counts.times_ms[item_id].append(at_ms - item.created_ms)

    def _send(self, user: str, verb: str, item: str, at_ms: int, **more: Any) -> None:
        record = {"activity_id": f"c{self.sent}", "actor": user, "verb": verb, "object": item}
        self.job.activity(record | {"event_time": at_ms} | more)
        self.sent += 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """One world. `gain` float64[bins]: click-through of new people over popularity's, a difference (nan where
    a half has none); `minutes` float64[k]: until new items had 100 impressions, inf = not while followed."""

    gain: NDArray[np.float64]
    minutes: NDArray[np.float64]
    share_new: float


def outcome(cold: Cold) -> Outcome:
    """Play a world."""
    counts = cold.run()
    ranked, popular = np.array(counts.rates(RANKED)), np.array(counts.rates(POPULAR))
    some = [bool(counts.impressions[RANKED, b] and counts.impressions[POPULAR, b]) for b in range(len(ACTED))]
    minutes = []
    for item in cold.world.items:
        if START_MS <= item.created_ms < START_MS + (TURNS - FOLLOWED_TURNS) * TURN_MS:
            times = counts.times_ms[item.item_id]
            found = times[IMPRESSIONS - 1] if len(times) >= IMPRESSIONS else np.inf
            minutes.append(found / 60_000 if found <= FOLLOWED_TURNS * TURN_MS else np.inf)
    gain = np.where(some, ranked - popular, np.nan)
    return Outcome(gain, np.array(minutes), counts.shown_new / max(counts.shown, 1))


def one(variant: str, seed: int) -> Outcome:
    """A world with a variant of the policy."""
    return outcome(Cold(seed, policy_of(variant)))


def run(place: Place) -> Iterator[Figure]:
    """Figures by variant of the policy: with exploration as the bundled one has it, and without."""
    del place
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = {v: [pool.submit(one, v, seed) for seed in range(worlds)] for v, worlds in WORLDS.items()}
        for variant, played in jobs.items():
            yield from figures(variant, [job.result() for job in played])


def figures(variant: str, worlds: Sequence[Outcome]) -> Iterator[Figure]:
    """Of all worlds together."""
    clear = []
    for place, begin in enumerate(ACTED):
        gain = mean(np.array([world.gain[place] for world in worlds]))
        clear.append(gain.low > 0)
        note = f"{gain.clusters} worlds, 95 % interval {gain.low:+.4f} to {gain.high:+.4f}"
        subject = f"{variant}: new people, {_bin(place, begin)} acts, click-through over popularity's"
        yield Figure("coldstart", subject, gain.value, "difference", note=note)
    after = next((ACTED[place] for place in range(len(ACTED)) if all(clear[place:])), None)
    note = (
        "from this bin on every interval is above zero" if after is not None else "not reached there either"
    )
    subject = f"{variant}: acts until the feed beats popularity"
    yield Figure("coldstart", subject, float(ACTED[-1] if after is None else after), "acts", note=note)
    minutes = np.concatenate([world.minutes for world in worlds])
    reached = np.isfinite(minutes)
    half = float(np.median(minutes))
    note = f"{len(minutes)} items, each followed for {FOLLOWED_TURNS * TURN_MS // 60_000} minutes; median "
    note += f"{half:.1f} minutes" if np.isfinite(half) else "beyond that"
    if reached.any():
        note += f"; of those that reached it {np.median(minutes[reached]):.1f}"
    subject = f"{variant}: new items with {IMPRESSIONS} impressions"
    yield Figure("coldstart", subject, float(reached.mean()), "share", note=note)
    share = mean(np.array([world.share_new for world in worlds]))
    note = f"{TURNS // TURNS_PER_ITEM} of about {FIRST_ITEMS + TURNS // TURNS_PER_ITEM} items are new; "
    note += f"95 % {share.low:.3f} to {share.high:.3f}"
    yield Figure("coldstart", f"{variant}: impressions that go to new items", share.value, "share", note=note)


def _bin(place: int, begin: int) -> str:
    if place + 1 == len(ACTED):
        return f"{begin} and more"
    last = ACTED[place + 1] - 1
    return str(begin) if last == begin else f"{begin} to {last}"
