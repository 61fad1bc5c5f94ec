"""What `feedrank diff` found, as plain data: the JSON output, and what text and page are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.evaluation.agreement import percentiles
from models.explain import EXPLORED
from streams.feed_heads import StoredFeed
from topologies.comparing import DEPTHS, Comparison, UserChange
from topologies.explaining import LIFT_MIN, Known, candidacy, moved_features, usual_lift

AT = (1, 5, 10, 25, 50, 75, 90, 95, 99)
BINS = 20
ITEMS_MOST = 15
USER_ITEMS_MOST = 8
FEATURES_MOST = 3
SLOPES = 15
NOTHING_LIFTED = (
    "no feature of it moved beyond the others': what the policy says actions are worth, a rule, exploration, "
    "or other items moved"
)
RANGES = {"rank_biased": (0.0, 1.0), "tau": (-1.0, 1.0)}
"""Of measures with fixed ends; overlaps lie between 0 and 1."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was compared: both namespaces, the surface, users with feeds on each side, and how they were
    chosen (`sample` 0: all)."""

    a: str
    b: str
    surface: str
    users_a: int
    users_b: int
    common: int
    sample: int
    seed: int


Explained = tuple[Mapping[str, Known], Mapping[str, Known]]


def report(asked: Asked, found: Comparison, known: Explained) -> dict[str, Any]:
    """Everything, ready for JSON: nan is null. docs/compare.md lists the fields."""
    return {
        "a": asked.a,
        "b": asked.b,
        "surface": asked.surface,
        "users": {
            "a": asked.users_a,
            "b": asked.users_b,
            "common": asked.common,
            "compared": found.users,
            "sample": asked.sample,
            "seed": asked.seed,
            "both_empty": found.empty,
            "gone_meanwhile": found.gone,
        },
        "equal": found.equal,
        "same_time": found.same_time,
        "policies": {"a": dict(found.policies[0]), "b": dict(found.policies[1])},
        "models": {"a": dict(found.models[0]), "b": dict(found.models[1])},
        "p": found.measures.p,
        "ks": list(found.measures.ks),
        "measures": {name: _spread(name, values) for name, values in found.values.items()},
        "overlap_by_depth": _by_depth(found),
        "entered": _items(found, found.entered.most_common()),
        "left": _items(found, found.left.most_common()),
        "most_changed": [_user(one, known) for one in found.most],
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)


def _spread(name: str, values: Any) -> dict[str, Any]:
    there = values[~np.isnan(values)]
    found: dict[str, Any] = {"users": int(there.size), "mean": _number(there.mean()) if there.size else None}
    found |= {f"p{at}": _number(value) for at, value in zip(AT, percentiles(values, AT), strict=True)}
    ends = RANGES.get(name, (0.0, 1.0) if name.startswith("overlap") else None)
    if ends is not None:
        counts, edges = np.histogram(there, BINS, ends)
        found["histogram"] = {"edges": [round(edge, 6) for edge in edges.tolist()], "users": counts.tolist()}
    return found


def _by_depth(found: Comparison) -> list[dict[str, Any]]:
    """Overlap of the first d entries, over the users of whom a feed is at least so long."""
    told = []
    for depth in range(DEPTHS):
        column = found.by_depth[:, depth]
        there = column[~np.isnan(column)]
        if not there.size:
            break
        low, middle, high = percentiles(there, (10, 50, 90))
        told.append(
            {
                "depth": depth + 1,
                "users": int(there.size),
                "mean": _number(there.mean()),
                "p10": _number(low),
                "p50": _number(middle),
                "p90": _number(high),
            }
        )
    return told


def _items(found: Comparison, counted: list[tuple[str, int]]) -> list[dict[str, Any]]:
    """In most feeds first, equal ones by id."""
    ordered = sorted(counted, key=lambda one: (-one[1], one[0]))[:ITEMS_MOST]
    return [{"item": item, "title": found.titles.get(item), "feeds": count} for item, count in ordered]


def _user(one: UserChange, known: Explained) -> dict[str, Any]:
    a, b = (side[one.user] for side in known)
    usual = usual_lift(a, b)
    return {
        "user": one.user,
        "rank_biased": _number(one.rank_biased),
        "tau": _number(one.tau),
        "overlap": {str(k): _number(value) for k, value in one.overlap.items()},
        "entered": len(one.entered),
        "left": len(one.left),
        "a": _side(one.before, a),
        "b": _side(one.after, b),
        "items": [_moved_item(one, a, b, usual, item) for item in _most_moved(one)],
        "slopes": {
            "a": one.before.ids[:SLOPES],
            "b": one.after.ids[:SLOPES],
            "titles": {
                item: title
                for feed in (one.before, one.after)
                for item, title in zip(feed.ids[:SLOPES], feed.titles[:SLOPES], strict=True)
                if title is not None
            },
        },
    }


def _side(feed: StoredFeed, known: Known) -> dict[str, Any]:
    return {
        "version": feed.version,
        "as_of_ms": feed.as_of_ms,
        "entries": len(feed.ids),
        "known": known.told,
        "exact": known.exact,
    }


def _most_moved(one: UserChange) -> list[str]:
    """Items by how much their reciprocal rank changed (0 where a feed lacks them): the top counts most."""
    before, after = ({item: 1 / (at + 1) for at, item in enumerate(f.ids)} for f in (one.before, one.after))
    change = {item: abs(before.get(item, 0.0) - after.get(item, 0.0)) for item in before | after}
    ordered = sorted(change, key=lambda item: (-change[item], item))
    return [item for item in ordered[:USER_ITEMS_MOST] if change[item]]


def _moved_item(one: UserChange, a: Known, b: Known, usual: Any, item: str) -> dict[str, Any]:
    entries = [{e.id: (at + 1, e) for at, e in enumerate(f.entries)} for f in (one.before, one.after)]
    before, after = (side.get(item) for side in entries)
    entry = (after or before or (0, None))[1]
    features = moved_features(a, b, usual, item, FEATURES_MOST)
    return {
        "item": item,
        "title": entry.title if entry else None,
        "rank_a": before[0] if before else None,
        "rank_b": after[0] if after else None,
        "score_a": before[1].score if before else None,
        "score_b": after[1].score if after else None,
        "source_a": before[1].source if before else None,
        "source_b": after[1].source if after else None,
        "explored_a": EXPLORED in before[1].why if before else None,
        "explored_b": EXPLORED in after[1].why if after else None,
        "candidate_a": candidacy(a, item),
        "candidate_b": candidacy(b, item),
        "features": None
        if features is None
        else [
            {
                "feature": moved.feature,
                "a": _number(moved.before),
                "b": _number(moved.after),
                "lift": _number(moved.lift),
            }
            for moved in features
        ],
    }


def said(item: Mapping[str, Any]) -> str:
    """Why an item of a most changed user moved, in words."""
    sources = item["source_a"], item["source_b"]
    told = [_moved_by(item)]
    if None not in sources and sources[0] != sources[1]:
        told.append(f"proposed by {sources[0]} → {sources[1]}")
    told += [f"drawn to explore in {side.upper()}" for side in ("a", "b") if item[f"explored_{side}"]]
    return "; ".join(told)


def _moved_by(item: Mapping[str, Any]) -> str:
    if item["features"] is not None:
        lifted = [moved for moved in item["features"] if abs(moved["lift"]) >= LIFT_MIN]
        if not lifted:
            return NOTHING_LIFTED
        return "; ".join(
            f"{moved['feature']} {moved['a']:.3g} → {moved['b']:.3g} ({moved['lift']:+.2f})"
            for moved in lifted
        )
    for side in ("a", "b"):
        if item[f"candidate_{side}"] is False:
            return f"no candidate in {side.upper()}"
        if item[f"rank_{side}"] is None and item[f"candidate_{side}"]:
            return f"a candidate in {side.upper()}, but dropped or below its end; its features are not known"
    return "features not known"
