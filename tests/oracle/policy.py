"""The policy file as numbers (docs/policy.md)."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import floor
from typing import Any

from xxhash import xxh3_64_hexdigest

from tests.oracle.numbers import DAY_MS, GRID

ROLES = ("exposure", "weak", "strong", "negative", "graph", "undo")
EXPOSURE, WEAK, STRONG, NEGATIVE, GRAPH, UNDO = range(6)
HEADS = (WEAK, STRONG, NEGATIVE)


@dataclass(frozen=True)
class Verb:
    code: int
    role: int
    affinity: int
    half_life_s: int
    makes_due: bool
    graph: str | None


def grid(value: float | Fraction) -> int:
    """The nearest multiple of 1/4096, halves up, in units of 1/4096."""
    return floor(Fraction(value) * GRID + Fraction(1, 2))


class Policy:
    """What a TOML text says; the reference has checked it before."""

    def __init__(self, text: str) -> None:
        document: dict[str, Any] = tomllib.loads(text)
        content = json.dumps(document, sort_keys=True, ensure_ascii=False, default=str)
        self.hash = xxh3_64_hexdigest(content.encode())[:8]
        self.version = f"{document['version']}-{self.hash}"
        self.model = f"rate-lift-1-{self.hash}"
        self.seed = int(self.hash, 16)
        self.verbs = {name: _verb(code, one) for code, (name, one) in enumerate(document["verbs"].items())}
        self.by_code = list(self.verbs.values())
        self.values = [_value(document["verbs"], role) for role in HEADS]
        self.weights = [
            {name: grid(weight) for name, weight in document["lift"][ROLES[role]].items()} for role in HEADS
        ]
        feed = document.get("feed", {})
        self.length = feed.get("length", 100)
        self.item_age_ms_max: int = feed.get("item_age_days_max", 60) * DAY_MS
        self.active_ms = feed.get("active_days", 14) * DAY_MS
        self.stale_after_ms = feed.get("stale_after_s", 3600) * 1_000
        candidates = document["candidates"]
        self.count = candidates.get("count", 400)
        self.cell_items = candidates.get("cell_items", 128)
        self.sources = {name: (s["quota"], s["reach"]) for name, s in candidates["sources"].items()}
        self.rules: dict[str, list[str]] = {name: s["rules"] for name, s in document["surfaces"].items()}
        self.explore_share = {
            name: Fraction(s.get("explore_share", 0.0)) for name, s in document["surfaces"].items()
        }
        slate = document["surfaces"]["for_you"].get("slate", {})
        self.slate_share = Fraction(slate.get("share", 0.0))
        self.slate_slots, self.slate_pool = slate.get("slots", 3), slate.get("pool", 20)
        self.slate_temperature = max(grid(slate.get("temperature", 0.1)), 1)
        numbers = document.get("rules", {})
        self.seen_times_max: int = numbers.get("seen_times_max", 3)
        self.fatigue = grid(numbers.get("fatigue_factor", 0.7))
        self.out_of_network = grid(numbers.get("out_of_network_factor", 0.75))
        self.diversity_decay = grid(numbers.get("author_diversity_decay", 0.5))
        self.diversity_floor = grid(numbers.get("author_diversity_floor", 0.25))


def _verb(code: int, one: dict[str, Any]) -> Verb:
    return Verb(
        code,
        ROLES.index(one["role"]),
        one.get("affinity", 0),
        one.get("half_life_h", 24) * 3600,
        one.get("makes_due", False),
        one.get("graph"),
    )


def _value(verbs: dict[str, Any], role: int) -> int:
    """What a head is worth: the mean of its verbs' values other than 0."""
    values = [Fraction(v.get("value", 0)) for v in verbs.values() if v["role"] == ROLES[role]]
    values = [value for value in values if value]
    return grid(sum(values, Fraction(0)) / max(len(values), 1))


@cache
def policy_of(text: str) -> Policy:
    """Nobody changes one."""
    return Policy(text)
