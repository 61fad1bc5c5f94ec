"""Features (8): a dict of grid integers per candidate (docs/ranking.md, Features)."""

from __future__ import annotations

from math import floor, sqrt

from tests.oracle.candidates import Candidate, dot
from tests.oracle.catalogue import Catalogue
from tests.oracle.numbers import EPOCH_MS, GRID, HOUR_MS, LONG_WEIGHT, MASK32, clip, log2_whole
from tests.oracle.policy import EXPOSURE, NEGATIVE, ROLES, STRONG, WEAK
from tests.oracle.rates import Rates, clipped, log_rate
from tests.oracle.records import Item
from tests.oracle.tastes import NO_INTEREST, Reader

SESSION_GAP_MS = 1_800_000
NEVER = 20 * GRID

Features = dict[str, int]


class ItemFeatures:
    """Those that are the same for every user, as of a time."""

    def __init__(self, catalogue: Catalogue, as_of_ms: int) -> None:
        self.catalogue, self.as_of_ms = catalogue, as_of_ms
        self.rates = Rates(catalogue)
        self._known: dict[int, Features] = {}

    def of(self, item: Item) -> Features:
        if item.fp not in self._known:
            self._known[item.fp] = self._rates(item) | self._activity(item)
        return self._known[item.fp]

    def _rates(self, item: Item) -> Features:
        rates, found = self.rates, Features()
        for a in (WEAK, STRONG, NEGATIVE):
            name = ROLES[a]
            week, day, hour = map(log_rate, rates.windows(item, a))
            found[f"{name}_rate_7d"] = week - 24 * GRID
            found[f"{name}_rate_24h"] = day - week
            if a == WEAK:
                found["weak_rate_1h"] = hour - day
            found[f"author_{name}_rate"] = log_rate(rates.author(item, a)) - log2_whole(rates.all[a])
        found["rate_debiased"] = rates.debiased(item)
        found["dwell_per_action"] = log2_whole(rates.dwell(item)) - log2_whole(rates.all_dwell)
        return found

    def _activity(self, item: Item) -> Features:
        derived, as_of_s = self.catalogue.derived[item.fp], self.as_of_ms // 1000
        day = clipped(derived.h24)
        engaged = clip(day[WEAK] + 4 * day[STRONG] - 8 * day[NEGATIVE], 0, 1 << 20)
        total = clip(derived.long[WEAK] + 4 * derived.long[STRONG], 0, 1 << 52)
        total //= 2 ** (8 * clip(self.as_of_ms // EPOCH_MS - derived.epoch, 0, 6))
        total //= LONG_WEIGHT[self.as_of_ms % EPOCH_MS // HOUR_MS]
        ago = min(NEVER, log2_whole(max(0, (as_of_s - derived.last_s) // 60) + 1))
        minutes = max(0, (self.as_of_ms - item.created_ms) // 60_000)
        return {
            "trend": log2_whole(min(self.catalogue.trend[item.fp], 1 << 52) + 1),
            "popularity_24h": log2_whole(engaged + 1),
            "popularity_long": log2_whole(total + 1),
            "exposures_7d": log2_whole(clipped(derived.d7)[EXPOSURE] + 1),
            "engaged_ago": ago if derived.last_s else NEVER,
            "age": log2_whole(minutes + 1),
            "age_days": min(256 * GRID, minutes * GRID // 1440),
        }


def features_of(reader: Reader, candidates: list[Candidate], known: ItemFeatures) -> list[Features]:
    """One dict per candidate."""
    context, standing = _context(reader, known.rates), reader.standing(STRONG)
    rows = [
        known.of(c.item)
        | context
        | _affinity(reader, c.item, standing)
        | _similarity(reader, c.item)
        | _history(reader, c.item, known.catalogue)
        for c in candidates
    ]
    _relative(rows, candidates)
    return rows


def _affinity(reader: Reader, item: Item, standing: set[int]) -> Features:
    author = reader.authors.get(item.author32, NO_INTEREST)
    topics = [reader.topics.get(topic, NO_INTEREST) for topic in item.topics32]
    found = {f"author_{name}": value for name, value in author.items()}
    found |= {f"topic_{name}": sum(topic[name] for topic in topics) for name in NO_INTEREST}
    found["author_followed"] = GRID * (item.author48 in reader.followed_authors)
    found["topic_followed"] = GRID * sum(topic in reader.followed_topics for topic in item.topics32)
    found["item_engaged"] = GRID * (item.fp & MASK32 in standing)
    return found


def _similarity(reader: Reader, item: Item) -> Features:
    long, short = reader.long_direction, reader.short_direction
    return {"similarity_long": _cosine(long, item), "similarity_short": _cosine(short, item)}


def _cosine(q: list[int], item: Item) -> int:
    e = item.embedding
    if e is None or not any(e) or not any(q):
        return 0
    return floor(dot(q, e) * GRID / sqrt(dot(q, q) * dot(e, e)))


def _history(reader: Reader, item: Item, catalogue: Catalogue) -> Features:
    times = reader.seen_times(item.fp)
    lately = min(times, 16) * GRID // 2 ** min(reader.seen_days(item.fp), 24) if times else 0
    engagers = [user for user, _ in catalogue.derived[item.fp].engagers]
    return {
        "seen_times": log2_whole(times + 1),
        "seen_lately": lately,
        "followed_engagers": log2_whole(sum(user in reader.followed_authors for user in engagers) + 1),
    }


def _context(reader: Reader, rates: Rates) -> Features:
    user, as_of_ms = reader.user, reader.as_of_ms
    open_ = as_of_ms - user.rings.newest_ms <= SESSION_GAP_MS
    found = {
        "hour": as_of_ms // HOUR_MS % 24 * GRID,
        "session_depth": log2_whole((user.session_depth if open_ else 0) + 1),
    }
    for a in (WEAK, STRONG, NEGATIVE):
        own = log_rate(rates.user(reader.week, a))
        found[f"user_{ROLES[a]}_rate"] = own - log2_whole(rates.all[a])
    return found


def _relative(rows: list[Features], candidates: list[Candidate]) -> None:
    ages = _shares_above([c.item.created_ms for c in candidates])
    similarities = _shares_above([row["similarity_long"] for row in rows])
    strong = _standings([row["strong_rate_7d"] for row in rows])
    weak = _standings([row["weak_rate_7d"] for row in rows])
    for row, age, similarity, s, w in zip(rows, ages, similarities, strong, weak, strict=True):
        row |= {"age_rank": age, "similarity_rank": similarity, "strong_rate_z": s, "weak_rate_z": w}


def _shares_above(values: list[int]) -> list[int]:
    """What share of the others has a greater value."""
    place = {value: n for n, value in reversed(list(enumerate(sorted(values, reverse=True))))}
    return [place[value] * GRID // max(1, len(values) - 1) for value in values]


def _standings(rates: list[int]) -> list[int]:
    """How far each is from the mean, in mean deviations. (All rates less the same constant: the same.)"""
    if not rates:
        return []
    mean = sum(rates) // len(rates)
    off = [rate - mean for rate in rates]
    deviation = max(sum(map(abs, off)) // len(off), 64)
    return [clip(one * GRID // deviation, -8 * GRID, 8 * GRID) for one in off]
