"""A straightforward ranker with pandas, one user at a time: the peer of benchmark `rank`.

It computes the features, scores and rules of docs/ranking.md in ordinary floats, from tables that are
already in memory, for candidates that it is given. What a careful data scientist would write first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from models.candidates import Candidates
from models.examination import UNIT
from models.fingerprint import FP32, FP48
from models.item_index import ItemIndex
from models.policy import HEADS, Policy
from models.sample_world import SampleWorld

PRIORS = {"weak": 0.05, "strong": 0.01, "negative": 0.002}
ROLES = ("exposure", "weak", "strong", "negative", "dwell")


def item_table(index: ItemIndex) -> pd.DataFrame:
    """One row per item: ids, times, counts by window, engagers, topics, embedding."""
    n = index.slots.high
    derived = index.derived[:n]
    columns: dict[str, Any] = {
        "fp": index.fp[:n],
        "created_ms": index.created_ms[:n],
        "author": index.author_fp[index.author[:n]] & FP48,
        "title": index.title[:n],
        "trend": index.trend[:n],
        "last_s": derived["last_s"],
        "examined": derived["examined"].astype(np.float64) / UNIT,
    }
    for window in ("h1", "h24", "d7", "long"):
        for place, role in enumerate(ROLES):
            columns[f"{window}_{role}"] = derived[window][:, place].astype(np.float64)
    table = pd.DataFrame(columns)
    topic_fp = np.where(index.topics[:n] >= 0, index.topic_fp[np.maximum(index.topics[:n], 0)] & FP32, 0)
    table["topics"] = [[t for t in row if t] for row in topic_fp.tolist()]
    table["engagers"] = [[e >> 16 for e in row if e] for row in derived["engagers"].tolist()]
    return table


class PandasRanker:
    """`sums`: rates of authors, topics and all items are worked out once, as ours are kept."""

    def __init__(self, world: SampleWorld, policy: Policy) -> None:
        self.world, self.policy = world, policy
        self.items = item_table(world.index)
        self.embedding = world.index.embedding[: world.index.slots.high]
        counts = [f"d7_{role}" for role in ROLES]
        self.total = self.items[counts].sum()
        examined = self.items["examined"].sum() + 1_000
        self.items["debiased"] = self.items["examined"] * (self.total["d7_exposure"] + 1_000) / examined
        self.by_author = self.items.groupby("author")[counts].sum()
        exploded = self.items[["topics", *counts]].explode("topics")
        self.by_topic = exploded.groupby("topics")[counts].sum()
        self.all = {r: self._rate(self.total, "d7", r, PRIORS[r], 1_000) for r in PRIORS}

    def features(self, user: int, slots: np.ndarray) -> pd.DataFrame:
        """One row per candidate, one column per feature."""
        rows = self.items.iloc[slots]
        f = pd.DataFrame(index=rows.index)
        as_of_ms = self.world.as_of_ms
        self._affinity(f, rows, user)
        self._similarity(f, slots, user)
        self._rates(f, rows, user)
        minutes = ((as_of_ms - rows["created_ms"]) // 60_000).clip(lower=0)
        f["age"], f["age_days"] = np.log2(minutes + 1), (minutes / 1_440).clip(upper=256)
        f["trend"] = np.log2(rows["trend"] + 1)
        engaged = rows["h24_weak"] + 4 * rows["h24_strong"] - 8 * rows["h24_negative"]
        f["popularity_24h"] = np.log2(engaged.clip(lower=0) + 1)
        into_h = as_of_ms % 20_736_000_000 // 3_600_000
        long = (rows["long_weak"] + 4 * rows["long_strong"]) / 2 ** (into_h / 720) / 4_096
        f["popularity_long"] = np.log2(np.floor(long.clip(lower=0)) + 1)
        f["exposures_7d"] = np.log2(rows["d7_exposure"] + 1)
        ago = ((as_of_ms // 1_000 - rows["last_s"]) // 60).clip(lower=0)
        f["engaged_ago"] = np.log2(ago + 1).where(rows["last_s"] > 0, 20.0).clip(upper=20)
        self._history(f, rows, user)
        f["hour"] = as_of_ms // 3_600_000 % 24
        f["age_rank"] = (rows["created_ms"].rank(ascending=False, method="min") - 1) / max(len(rows) - 1, 1)
        f["similarity_rank"] = (f["similarity_long"].rank(ascending=False, method="min") - 1) / max(
            len(rows) - 1, 1
        )
        for name in ("strong", "weak"):
            x = f[f"{name}_rate_7d"]
            off = x - x.mean()
            f[f"{name}_rate_z"] = (off / max(off.abs().mean(), 1 / 64)).clip(-8, 8)
        return f

    def rank(self, user: int, slots: np.ndarray) -> pd.DataFrame:
        """The first 100 candidates after rules, best first."""
        f, rows = self.features(user, slots), self.items.iloc[slots]
        score = pd.Series(0.0, index=f.index)
        for head in HEADS:
            weights = pd.Series(self.policy.weights[head]) / 4_096
            score += self.policy.values[head] / 4_096 * np.exp2(f[weights.index].dot(weights)).clip(upper=1)
        ranked = pd.DataFrame({"score": score, "author": rows["author"], "title": rows["title"]})
        ranked = ranked[self._may_be_shown(rows, f, user)]
        ranked["score"] *= np.where(f["author_followed"][ranked.index] > 0, 1.0, 0.75)
        ranked["score"] *= 0.7 ** self._seen_times(rows, user)[ranked.index]
        ranked = ranked.sort_values("score", ascending=False).drop_duplicates(["author", "title"])
        place = ranked.groupby("author").cumcount()
        ranked["score"] *= 0.75 * 0.5**place + 0.25
        return ranked.sort_values("score", ascending=False).head(self.policy.feed.length)

    def _affinity(self, f: pd.DataFrame, rows: pd.DataFrame, user: int) -> None:
        row, taste = self.world.users.merged[user], self._taste(user)
        author32 = rows["author"] & np.uint64(0xFFFFFFFF)
        topics = rows["topics"].explode()
        for kind, keys in (("author", author32), ("topic", topics)):
            pos = pd.Series(row[f"{kind}_pos"].astype(float), index=row[f"{kind}_fp"].astype(np.uint64))
            neg = pd.Series(row[f"{kind}_neg"].astype(float), index=pos.index)
            hours = (self.world.as_of_ms // 1_000 - int(row["merged_s"])) // 3_600
            pos, neg = pos[pos.index > 0] * 0.5 ** (hours / 720), neg[neg.index > 0] * 0.5 ** (hours / 336)
            named = (("long_pos", np.log2(1 + pos / 256)), ("long_neg", np.log2(1 + neg / 256)),
                     ("long_share", pos / max(pos.sum(), 1)), ("short_pos", taste[kind]["for"]),
                     ("short_neg", taste[kind]["against"]))  # fmt: skip
            for name, values in named:
                f[f"{kind}_{name}"] = keys.map(values).fillna(0.0).groupby(level=0).sum()
        graph = self.world.users.graph[user]
        followed = graph.follows[graph.follow_kinds == 0] >> np.uint64(16)
        f["author_followed"] = rows["author"].isin(followed).astype(float)
        liked_topics = (graph.follows[graph.follow_kinds == 1] >> np.uint64(16)) & FP32
        f["topic_followed"] = topics.isin(liked_topics).groupby(level=0).sum()
        engagers = rows["engagers"].explode()
        f["followed_engagers"] = np.log2(engagers.isin(followed).groupby(level=0).sum() + 1)

    def _taste(self, user: int) -> dict[str, dict[str, pd.Series]]:
        """log2(1 + weight) by author and topic of the last 16 engagements."""
        row, verbs = self.world.users.merged[user], self.policy.verbs.verbs
        items = self.items.set_index("fp")
        ring = pd.DataFrame({"fp": row["ring_fp"], "s": row["ring_s"], "act": row["ring_act"]})
        ring = ring[: min(int(row["engaged"]), 16)]
        ring = ring[ring["fp"].isin(items.index)]
        age_s = (self.world.as_of_ms // 1_000 - ring["s"].astype(np.int64)).clip(lower=0)
        affinity = ring["act"].map(lambda a: verbs[a & 31].affinity * (-1 if a & 128 else 1))
        half_life_s = ring["act"].map(lambda a: verbs[a & 31].half_life_s)
        ring["weight"] = affinity * 0.5 ** (age_s / half_life_s)
        ring["author"] = (items.loc[ring["fp"], "author"] & np.uint64(0xFFFFFFFF)).to_numpy()
        ring["topic"] = items.loc[ring["fp"], "topics"].to_numpy()
        self._ring = ring
        found = {}
        for kind, table in (("author", ring), ("topic", ring.explode("topic"))):
            up = table[table["weight"] > 0].groupby(kind)["weight"].sum()
            down = -table[table["weight"] < 0].groupby(kind)["weight"].sum()
            found[kind] = {"for": np.log2(1 + up), "against": np.log2(1 + down)}
        return found

    def _similarity(self, f: pd.DataFrame, slots: np.ndarray, user: int) -> None:
        items = self.embedding[slots].astype(np.float64)
        ring = self.world.index.lookup(self._ring["fp"].to_numpy().astype(np.uint64))
        lately = (self.embedding[ring] * self._ring["weight"].to_numpy()[:, None]).sum(axis=0)
        for name, taste in (
            ("long", self.world.users.merged[user]["embedding"].astype(float)),
            ("short", lately),
        ):
            size = np.linalg.norm(items, axis=1) * np.linalg.norm(taste)
            f[f"similarity_{name}"] = np.where(size > 0, items @ taste / np.maximum(size, 1e-9), 0.0)

    def _rates(self, f: pd.DataFrame, rows: pd.DataFrame, user: int) -> None:
        first = rows["topics"].str[0]
        author = self.by_author.loc[rows["author"]].set_index(rows.index)
        topic = self.by_topic.reindex(first).set_index(rows.index)
        for role in PRIORS:
            prior = self._rate(topic, "d7", role, self.all[role], 100).fillna(self.all[role])
            week = self._rate(rows, "d7", role, prior, 20)
            day = self._rate(rows, "h24", role, week, 20)
            f[f"{role}_rate_7d"], f[f"{role}_rate_24h"] = np.log2(week), np.log2(day / week)
            if role == "weak":
                f["weak_rate_1h"] = np.log2(self._rate(rows, "h1", role, day, 20) / day)
            f[f"author_{role}_rate"] = np.log2(
                self._rate(author, "d7", role, self.all[role], 50) / self.all[role]
            )
        engaged = rows["d7_weak"] + rows["d7_strong"] + rows["d7_negative"]
        plain, debiased = (np.maximum(n, engaged) for n in (rows["d7_exposure"], np.floor(rows["debiased"])))
        f["rate_debiased"] = np.log2((plain + 20) / (debiased + 20))
        mean = (self.total["d7_dwell"] + 10_000) / (self.total["d7_weak"] + 1_000)
        f["dwell_per_action"] = np.log2((rows["d7_dwell"] + 20 * mean) / (rows["d7_weak"] + 20) / mean)
        days = self.world.users.rows[user]["d1"].sum(axis=0)
        mine = pd.Series({f"d7_{role}": float(days[k]) for k, role in enumerate(ROLES)})
        for role in PRIORS:
            f[f"user_{role}_rate"] = np.log2(
                self._rate(mine, "d7", role, self.all[role], 50) / self.all[role]
            )

    @staticmethod
    def _rate(c: Any, window: str, role: str, prior: Any, weight: int) -> Any:
        engaged = c[f"{window}_weak"] + c[f"{window}_strong"] + c[f"{window}_negative"]
        trials = np.maximum(c[f"{window}_exposure"], engaged)
        return np.minimum((c[f"{window}_{role}"] + weight * prior) / (trials + weight), 1.0)

    def _history(self, f: pd.DataFrame, rows: pd.DataFrame, user: int) -> None:
        times = self._seen_times(rows, user)
        f["seen_times"] = np.log2(times + 1)
        days = self._seen(user)["day"].reindex(rows["fp"] & np.uint64(0xFFFFFFFF)).to_numpy()
        since = np.nan_to_num(self.world.as_of_ms // 86_400_000 - days)
        f["seen_lately"] = times.clip(upper=16) / 2.0 ** np.clip(since, 0, 24)
        strong = self._ring["act"].map(lambda a: self.policy.verbs.role[a & 31] == 2 and a < 128)
        f["item_engaged"] = rows["fp"].isin(self._ring["fp"][strong]).astype(float)
        row = self.world.users.rows[user]
        fresh = self.world.as_of_ms - row["newest_ms"] <= 1_800_000
        f["session_depth"] = np.log2(1.0 + row["session_depth"]) if fresh else 0.0

    def _seen(self, user: int) -> pd.DataFrame:
        entries = self.world.users.seen[user]
        return pd.DataFrame(
            {"day": (entries >> np.uint64(16)) & np.uint64(0xFFFF), "times": entries & np.uint64(0xFFFF)},
            index=entries >> np.uint64(32),
        )

    def _seen_times(self, rows: pd.DataFrame, user: int) -> pd.Series:
        times = self._seen(user)["times"].reindex(rows["fp"] & np.uint64(0xFFFFFFFF)).fillna(0).astype(float)
        return times.set_axis(rows.index)

    def _may_be_shown(self, rows: pd.DataFrame, f: pd.DataFrame, user: int) -> pd.Series:
        graph, as_of_ms = self.world.users.graph[user], self.world.as_of_ms
        out = (rows["created_ms"] > as_of_ms) | (
            rows["created_ms"] < as_of_ms - self.policy.feed.item_age_ms_max
        )
        out |= self._seen_times(rows, user) >= self.policy.rules.seen_times_max
        for edges, kinds in ((graph.mutes, graph.mute_kinds), (graph.blocks, graph.block_kinds)):
            fp48 = edges >> np.uint64(16)
            out |= rows["author"].isin(fp48[kinds == 0])
            out |= rows["topics"].explode().isin(fp48[kinds == 1] & FP32).groupby(level=0).any()
        negative = self._ring["act"].map(lambda a: self.policy.verbs.role[a & 31] == 3 and a < 128)
        out |= rows["fp"].isin(self._ring["fp"][negative])
        out |= rows["author"] == self.world.users.fp[user] & FP48
        return ~out


def slots_of(candidates: Candidates, user: int) -> np.ndarray:
    """int32[c]: a user's candidates."""
    row = candidates.item[user]
    return row[row >= 0]


__all__ = ["PandasRanker", "slots_of"]
