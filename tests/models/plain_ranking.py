"""docs/ranking.md in plain Python numbers, one candidate at a time: what the ranker is compared with."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

from models.fingerprint import fp64
from models.tables import EXP2, LONG_WEIGHT
from tests.models.plain_people import (
    DWELL,
    EXPOSURE,
    FP32,
    FP48,
    HEADS,
    MASK,
    NEGATIVE,
    STRONG,
    WEAK,
    G,
    Item,
    Person,
    World,
    clip,
    counted,
    lb,
    smooth,
    splitmix64,
    trials,
)  # fmt: skip

__all__ = ["Person", "World", "features", "feed"]


def features(p: Person, items: list[Item]) -> list[dict[str, int]]:
    """By name, for each candidate."""
    rows = [_own_features(p, i) for i in items]
    m = len(items)
    for name, values in (("age_rank", [i.created_ms for i in items]),
                         ("similarity_rank", [r["similarity_long"] for r in rows])):  # fmt: skip
        for row, value in zip(rows, values, strict=True):
            row[name] = sum(v > value for v in values) * G // max(1, m - 1)
    for name, role in (("strong_rate_z", STRONG), ("weak_rate_z", WEAK)):
        logs = [lb(max(1, p.world.rates(i, role)[0])) for i in items]
        off = [x - sum(logs) // m for x in logs]
        dev = sum(abs(x) for x in off) // m
        for row, x in zip(rows, off, strict=True):
            row[name] = clip(x * G // max(dev, 64), -8 * G, 8 * G)
    return rows


def _own_features(p: Person, i: Item) -> dict[str, int]:
    f: dict[str, int] = {}
    _affinities(p, i, f)
    for name, q in zip(("similarity_long", "similarity_short"), p.directions, strict=True):
        dot = sum(a * b for a, b in zip(q, i.embedding, strict=True))
        square = sum(a * a for a in q) * sum(b * b for b in i.embedding)
        f[name] = math.floor(dot * G / math.sqrt(square)) if square else 0
    _rates(p, i, f)
    _activity(p, i, f)
    day, times = p.seen.get(i.fp & FP32, (0, 0))
    f["seen_times"] = lb(times + 1)
    days = max(0, p.as_of // 86_400_000 - day)
    f["seen_lately"] = min(times, 16) * G // 2 ** min(days, 24)
    engagers = [e >> 16 for e in i.d["engagers"].tolist() if e]
    f["followed_engagers"] = lb(sum(e in p.edges("follows", 0) for e in engagers) + 1)
    f["hour"] = p.as_of // 3_600_000 % 24 * G
    fresh = p.as_of - int(p.row["newest_ms"]) <= 1_800_000
    f["session_depth"] = lb(int(p.row["session_depth"]) + 1) if fresh else 0
    u = p.week()
    for name, role in HEADS.items():
        rate = smooth(u[role], trials(u), p.world.all(role), 50)
        f[f"user_{name}_rate"] = lb(max(1, rate)) - lb(p.world.all(role))
    return f


def _affinities(p: Person, i: Item, f: dict[str, int]) -> None:
    for kind, names in (("author", [i.author]), ("topic", i.topics)):
        keys = [fp64(n.encode()) & FP32 for n in names]
        long = [p.long[kind].get(k, (0, 0, 0)) for k in keys]
        short = [p.short(kind, k) for k in keys]
        f[f"{kind}_long_pos"] = sum(lb(pos + 256) - lb(256) for pos, _, _ in long)
        f[f"{kind}_long_neg"] = sum(lb(neg + 256) - lb(256) for _, neg, _ in long)
        f[f"{kind}_long_share"] = sum(share for _, _, share in long)
        f[f"{kind}_short_pos"] = sum(lb(pos + G) - lb(G) for pos, _ in short)
        f[f"{kind}_short_neg"] = sum(lb(neg + G) - lb(G) for _, neg in short)
    f["author_followed"] = G * (fp64(i.author.encode()) & FP48 in p.edges("follows", 0))
    followed = {e & FP32 for e in p.edges("follows", 1)}
    f["topic_followed"] = G * sum(fp64(t.encode()) & FP32 in followed for t in i.topics)
    f["item_engaged"] = G * (i.fp & FP32 in p.standing(STRONG))


def _rates(p: Person, i: Item, f: dict[str, int]) -> None:
    L = lambda r: lb(max(1, r))  # noqa: E731, N806
    for name, role in HEADS.items():
        week, day, hour = p.world.rates(i, role)
        f[f"{name}_rate_7d"] = L(week) - 24 * G
        f[f"{name}_rate_24h"] = L(day) - L(week)
        if role == WEAK:
            f["weak_rate_1h"] = L(hour) - L(day)
        sums = counted(p.world.by_author[i.author])
        f[f"author_{name}_rate"] = L(smooth(sums[role], trials(sums), p.world.all(role), 50)) - lb(
            p.world.all(role)
        )
    f["rate_debiased"] = p.world.debiased(i)
    t, d7 = [max(0, n) for n in p.world.total], i.window("d7")
    all_dwell = max(1, (t[DWELL] * G + 1000 * 10 * G) // (t[WEAK] + 1000))
    f["dwell_per_action"] = lb(max(1, (d7[DWELL] * G + 20 * all_dwell) // (d7[WEAK] + 20))) - lb(all_dwell)


def _activity(p: Person, i: Item, f: dict[str, int]) -> None:
    h24, long = i.window("h24"), i.d["long"].tolist()
    f["trend"] = lb(min(i.trend, 1 << 52) + 1)
    f["popularity_24h"] = lb(clip(h24[WEAK] + 4 * h24[STRONG] - 8 * h24[NEGATIVE], 0, 1 << 20) + 1)
    t = clip(long[WEAK] + 4 * long[STRONG], 0, 1 << 52)
    epoch, into = divmod(p.as_of, 20_736_000_000)
    t //= 2 ** (8 * clip(epoch - int(i.d["epoch"]), 0, 6))
    f["popularity_long"] = lb(t // int(LONG_WEIGHT[into // 3_600_000]) + 1)
    f["exposures_7d"] = lb(i.window("d7")[EXPOSURE] + 1)
    last_s = int(i.d["last_s"])
    f["engaged_ago"] = min(20 * G, lb(max(0, (p.as_of_s - last_s) // 60) + 1)) if last_s else 20 * G
    minutes = max(0, (p.as_of - i.created_ms) // 60_000)
    f["age"] = lb(minutes + 1)
    f["age_days"] = min(256 * G, minutes * G // 1440)


def score(policy: Any, f: dict[str, int]) -> int:
    total = 0
    for head, weights in policy.weights.items():
        y = clip(sum(w * f[name] for name, w in weights.items()) // G, -25 * G, 0)
        shift = 6 - (y >> 12)
        total += policy.values[head] * ((int(EXP2[y % G]) + (1 << shift - 1)) >> shift)
    return clip(total // G, -(2**31 - 2), 2**31 - 2)


def weaker(s: int, f: int) -> int:
    return max(-(2**31 - 2), s * f // G if s >= 0 else s * (2 * G - f) // G)


def feed(
    policy: Any, surface: str, p: Person, items: list[Item], seed: int
) -> tuple[list[tuple[int, float, float | None]], Counter[str]]:
    """Entries (slot, score, propensity) and how many candidates each rule dropped."""
    rules, rows = policy.surfaces[surface].rules, features(p, items)
    scores = {k: score(policy, rows[k]) for k in range(len(items))}
    order = lambda k: (-scores[k], items[k].fp >> 43, k)  # noqa: E731
    dropped: Counter[str] = Counter()
    pool = []
    for k in range(len(items)):
        reason = next((r for r in rules if r in _DROPS and _DROPS[r](policy, p, items[k])), None)
        if reason:
            dropped[reason] += 1
        else:
            pool.append(k)
    met: set[tuple[str, str]] = set()
    if "duplicate" in rules:
        for k in sorted(pool, key=order):
            key = (items[k].author, items[k].title or f"\0{k}")
            if key in met:
                dropped["duplicate"] += 1
                pool.remove(k)
            met.add(key)
    numbers = policy.rules
    for k in pool:
        times = p.seen.get(items[k].fp & FP32, (0, 0))[1]
        if "fatigue" in rules:
            factor = G
            for _ in range(min(times, 64)):
                factor = factor * numbers.fatigue_factor // G
            scores[k] = weaker(scores[k], factor)
        if "out_of_network" in rules and not rows[k]["author_followed"]:
            scores[k] = weaker(scores[k], numbers.out_of_network_factor)
    if "author_diversity" in rules:
        shown: Counter[str] = Counter()
        changed = {}
        for k in sorted(pool, key=order):
            power, floor = G, numbers.author_diversity_floor
            for _ in range(shown[items[k].author]):
                power = power * numbers.author_diversity_decay // G
            shown[items[k].author] += 1
            changed[k] = weaker(scores[k], (G - floor) * power // G + floor)
        scores |= changed
    return _slots(policy, surface, sorted(pool, key=order), pool, items, scores, seed), dropped


def _slots(
    policy: Any,
    surface: str,
    ranked: list[int],
    pool: list[int],
    items: list[Item],
    scores: dict[int, int],
    seed: int,
) -> list[tuple[int, float, float | None]]:
    n, share = len(pool), policy.surfaces[surface].explore_share
    stream = splitmix64(seed ^ 0x6578706C6F7265)
    left, drawn = sorted(pool), {}
    for s in range(min(policy.feed.length, n)):
        a, b = (splitmix64((stream + 2 * s + k) & MASK) >> 32 for k in (0, 1))
        if a < round(share * 2**32):
            at = b * len(left) >> 32
            drawn[s] = left[at]
            left[at] = left[-1]
            left.pop()
    rest = iter([k for k in ranked if k not in drawn.values()])
    entries = []
    for s in range(min(policy.feed.length, n)):
        k = drawn[s] if s in drawn else next(rest)
        micro = (scores[k] * 15625 * 2 + 2**18) // 2**19
        entries.append((items[k].slot, micro / 10**6, 1 / n if s in drawn else None))
    return entries


_DROPS: dict[str, Any] = {
    "own": lambda c, p, i: fp64(i.author.encode()) & FP48 == fp64(p.user) & FP48,
    "future": lambda c, p, i: i.created_ms > p.as_of,
    "too_old": lambda c, p, i: i.created_ms < p.as_of - c.feed.item_age_ms_max,
    "hidden": lambda c, p, i: i.fp & FP32 in p.standing(NEGATIVE),
    "seen": lambda c, p, i: p.seen.get(i.fp & FP32, (0, 0))[1] >= c.rules.seen_times_max,
    "blocked": lambda c, p, i: _related(p, i, "blocks"),
    "muted": lambda c, p, i: _related(p, i, "mutes"),
    "keyword": lambda c, p, i: bool(
        {fp64(w.encode()) & FP48 for w in re.findall(r"\w+", (i.title or "").lower())}
        & (p.edges("mutes", 2) | p.edges("blocks", 2))
    ),
}


def _related(p: Person, i: Item, name: str) -> bool:
    topics = {e & FP32 for e in p.edges(name, 1)}
    return fp64(i.author.encode()) & FP48 in p.edges(name, 0) or any(
        fp64(t.encode()) & FP32 in topics for t in i.topics
    )
