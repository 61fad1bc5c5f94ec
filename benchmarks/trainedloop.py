"""The closed loop with learning: made-up people act on what they are shown, and that is learned from.

People are put into groups by hash. In a first part all ranked groups see the default model; then models are
trained on the served log by `feedrank`'s own path (labels, rebuilt slates, folders), and in the second part
every group has its own ranker on the same shared state. The click model (demo.clicks) knows nothing of
ranking: position bias, noise, drifting tastes. Measured are clicks per session, over 10 seeds.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.figure import Figure
from benchmarks.place import Place
from demo.clicks import appeal, react
from demo.world import World, WorldItem
from feedrank.dataset.events import change_of, decoded, joined
from feedrank.dataset.rows import Wanted, rows
from feedrank.dataset.table import Writer, load
from feedrank.load.events import ActivityEvent, ItemEvent
from feedrank.training.fit import Spec, train
from models.columns import ActivityColumns
from models.evaluation.bootstrap import paired
from models.labels import join
from models.learned.cascade import Cascade
from models.policy import Policy, parse_policy
from models.ranker import Ranker
from models.score import RateLift
from topologies.feed_making import MadeFeed
from topologies.history import History
from topologies.model_folder import read_model, write_model
from topologies.past import ItemChange, Past, Served
from wire.version import Version

SEEDS = 10
USERS, AUTHORS = 280, 80
TICK_MS = 10_000
STEP_MS = 20_000
LOOKED_MS = 1_000
"""From the feed to what is done with it: it is not known at the tick that the feed was made at."""

START_MS = 1_700_000_000_000
TOGETHER = 8
"""Sessions at one moment: different people, ranked in one slice."""

PAST_ITEMS, PAST_STEPS = 500, 80
FIRST_STEPS, SECOND_STEPS = 150, 300
ITEMS_PER_STEP = 1
SLATE = 10
DRIFT_STEPS = 40
GROUPS = ("chronological", "popular", "oracle", "default", "no exploration", "linear", "light + lambdarank")
RANKED = GROUPS[3:]
EXPLORE = {
    "explore_share = 0.02": "explore_share = 0.05",
    "served_features_share = 0.05": "served_features_share = 1.0",
}
WINDOW_S = 1


def policy_text(explore: bool) -> str:
    """The bundled policy; all features are logged, every twentieth slot explores, or none."""
    text = files("models").joinpath("default_policy.toml").read_text()
    for old, new in EXPLORE.items():
        assert old in text
        text = text.replace(old, new if explore or "features" in old else "explore_share = 0.0")
    return text


def group_of(user: str) -> str:
    """By hash of the user's id."""
    return GROUPS[hashlib.blake2b(user.encode(), digest_size=2).digest()[1] % len(GROUPS)]


@dataclass
class Loop:
    """One world and one job."""

    seed: int
    policy: Policy
    plain: Policy
    now_ms: int = START_MS
    log: list[ActivityColumns] = field(default_factory=list)
    items: list[ItemChange] = field(default_factory=list)
    served: list[Served] = field(default_factory=list)
    clicks: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    recent: Counter[str] = field(default_factory=Counter)
    shown: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    sent: int = 0

    def __post_init__(self) -> None:
        self.world = World(self.seed, USERS, AUTHORS)
        self.rng = np.random.default_rng(self.seed + 1_000)
        self.history = History(self.policy.verbs, TICK_MS, 20_000)
        self.rankers = {name: self._ranker(name) for name in RANKED}
        self._begin()

    def _ranker(self, name: str, scorer: Any = None) -> Ranker:
        policy = self.plain if name == "no exploration" else self.policy
        return Ranker(policy, self.history.index, 1, scorer)

    def _begin(self) -> None:
        """Follows, older items, and a past in which people saw what was new, in any order."""
        self._act(
            [ActivityEvent("", u, "follow", a, self.now_ms, target="author") for u, a in self.world.follows()]
        )
        for n in range(PAST_ITEMS):
            self._publish(self.now_ms - (PAST_ITEMS - n) * 60_000)
        for _ in range(PAST_STEPS):
            self._step_items()
            known = self.world.items[-200:]
            for user in self._people():
                slate = [known[int(k)] for k in self.rng.choice(len(known), SLATE, replace=False)]
                self._session(user, slate, "")

    def _publish(self, created_ms: int) -> None:
        item = self.world.publish(created_ms)
        embedding = tuple(float(x) for x in item.embedding)
        event = ItemEvent(
            item.item_id, item.author, created_ms, created_ms, item.topics, item.title, None, embedding
        )
        change = change_of(event)
        self.items.append(change)
        assert change.record is not None
        self.history.put([change.record])

    def _step_items(self) -> None:
        self.now_ms += STEP_MS
        for _ in range(ITEMS_PER_STEP):
            self._publish(self.now_ms)

    def _people(self) -> list[int]:
        return [int(u) for u in self.rng.choice(USERS - 1, TOGETHER, replace=False) + 1]

    # -- one moment ------------------------------------------------------------------------------------------

    def steps(self, count: int, counted: bool) -> None:
        """So many moments, TOGETHER sessions each."""
        for step in range(count):
            self._step_items()
            if step % DRIFT_STEPS == 0:
                self.world.drift()
            self.history.close_ticks_at(self.now_ms // TICK_MS * TICK_MS)
            people = self._people()
            slates = self._slates(people)
            for user, (slate, slate_id) in zip(people, slates, strict=True):
                clicked = self._session(user, slate, slate_id)
                if counted:
                    self.clicks[group_of(self.world.user_ids[user])].append(clicked)

    def _slates(self, people: Sequence[int]) -> list[tuple[list[WorldItem], str]]:
        found: dict[int, tuple[list[WorldItem], str]] = {}
        for name in RANKED:
            mine = [u for u in people if group_of(self.world.user_ids[u]) == name]
            if mine:
                found |= dict(zip(mine, self._ranked(name, mine), strict=True))
        for user in people:
            if user not in found:
                found[user] = self._unranked(user), ""
        return [found[user] for user in people]

    def _ranked(self, name: str, users: list[int]) -> list[tuple[list[WorldItem], str]]:
        ids = [self.world.user_ids[u].encode() for u in users]
        version = str(Version(1, self.sent, self.history.tick, self.now_ms))
        feeds = self.rankers[name].rank(self.history.batch(ids), "for_you", [version] * len(ids), self.now_ms)
        made = []
        for feed in feeds:
            items = [self.history.index.ids[slot] for slot in feed.items.tolist()]
            record = MadeFeed(SimpleNamespace(user=feed.user.decode()), feed, items).record()  # type: ignore[arg-type]
            self.served.append(Served.parse(record, 0))
            slate = [self.world.item(one) for one in items[:SLATE]]
            made.append(([one for one in slate if one is not None], f"for_you:live:{version}:0"))
        return made

    def _unranked(self, user: int) -> list[WorldItem]:
        name = self.world.user_ids[user]
        fresh = [item for item in self.world.items[-400:] if item.item_id not in self.shown[name]]
        group = group_of(name)
        if group == "chronological":
            return list(reversed(fresh[-SLATE:]))
        if group == "popular":
            return sorted(fresh, key=lambda item: -self.recent[item.item_id])[:SLATE]
        best = np.argsort(-appeal(self.world, user, fresh, self.now_ms), kind="stable")
        return [fresh[int(k)] for k in best[:SLATE]]

    def _session(self, user: int, slate: Sequence[WorldItem], slate_id: str) -> int:
        name, done, clicks = self.world.user_ids[user], [], 0
        self.shown[name].update(item.item_id for item in slate)
        for one in react(self.world, user, slate, self.now_ms, self.rng):
            clicks += one.verb == "click"
            if one.verb == "click":
                self.recent[one.item_id] += 1
            act = ActivityEvent(
                "", name, one.verb, one.item_id, self.now_ms + LOOKED_MS, position=one.position
            )
            done.append(replace(act, dwell_ms=one.dwell_ms or None, slate_id=slate_id or None))
        self._act(done)
        return clicks

    def _act(self, done: list[ActivityEvent]) -> None:
        if done:
            named = [replace(one, activity_id=f"a{self.sent + n}") for n, one in enumerate(done)]
            columns = decoded(named, self.sent, self.policy.verbs, Counter())
            self.sent += len(named)
            self.log.append(columns)
            self.history.apply(columns)

    # -- learning --------------------------------------------------------------------------------------------

    def learn(self, folder: Path) -> Counter[str]:
        """Train on the served log so far, and give the groups their models."""
        past = Past([joined(self.log, self.policy.verbs)], self.items, self.served)
        labelled = join(past.partitions, self.policy.verbs, WINDOW_S)
        counts = Counter(labelled.counts)
        wanted = Wanted(
            past, labelled, self.policy, "live", TICK_MS, 20_000, window_s=WINDOW_S, shares=(0.2, 0.1)
        )
        with Writer(folder / "log.parquet") as writer:
            for columns, features in rows(wanted, counts, lambda done, total: None):
                writer.add(columns, features)
        data = load(folder / "log.parquet")
        for kind in ("linear", "lambdarank"):
            spec = Spec(kind, kind, leaves=7, trees=150)
            write_model(folder / kind, train(data, spec, lambda told: None).parts(data, {}))
        self.rankers["linear"] = self._ranker("linear", read_model(folder / "linear", self.policy))
        heavy = read_model(folder / "lambdarank", self.policy)
        self.rankers["light + lambdarank"] = self._ranker("", Cascade(RateLift(self.policy), heavy, 100))
        return counts


def one_run(seed: int) -> tuple[dict[str, float], Counter[str]]:
    """Clicks per session by group in the second part, and what the data set counted."""
    loop = Loop(seed, parse_policy(policy_text(True)), parse_policy(policy_text(False)))
    loop.steps(FIRST_STEPS, counted=False)
    with tempfile.TemporaryDirectory(prefix="feedrank-trained-loop-") as folder:
        counts = loop.learn(Path(folder))
    loop.steps(SECOND_STEPS, counted=True)
    return {group: float(np.mean(loop.clicks[group])) for group in GROUPS}, counts


def run(place: Place, seeds: int = SEEDS) -> Iterator[Figure]:
    """Figures over all seeds."""
    del place
    found: list[dict[str, float]] = []
    counts: Counter[str] = Counter()
    for seed in range(seeds):
        means, counted = one_run(seed)
        found.append(means)
        counts += counted
        shown = ", ".join(f"{group} {means[group]:.3f}" for group in GROUPS)
        print(f"  seed {seed}: {shown}", file=sys.stderr, flush=True)
    by_group = {group: np.array([one[group] for one in found]) for group in GROUPS}
    for group in GROUPS:
        share = by_group[group].mean() / by_group["oracle"].mean()
        note = f"clicks per session, {seeds} seeds; {share:.1%} of the oracle"
        yield Figure("trained loop", group, float(by_group[group].mean()), "clicks", note=note)
    pairs = [(group, base) for group in RANKED for base in ("chronological", "popular")]
    pairs += [("no exploration", "default"), ("linear", "default"), ("light + lambdarank", "default")]
    for group, base in pairs:
        gain = paired(by_group[group], by_group[base])
        share = gain.value / by_group[base].mean()
        clear = "clear of zero" if gain.clear_of_zero else "not clear of zero"
        note = f"{share:+.1%}; 95 % {gain.low:+.3f} to {gain.high:+.3f} over seeds, {clear}"
        yield Figure("trained loop gain", f"{group} over {base}", gain.value, "clicks", note=note)
    same = counts["logged values that differ"]
    note = f"of {counts['logged entries compared']} logged entries"
    yield Figure(
        "closedloop", "logged feature values that differ when rebuilt", float(same), "values", note=note
    )
