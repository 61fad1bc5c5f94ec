"""How slates are drawn (10): the table `slate` of a surface in the policy."""

from __future__ import annotations

from dataclasses import dataclass

from models.policy_source import Section
from models.tables import GRID

SLOTS_MAX = 5
"""Slots beyond which products of weights say nothing (models.evaluation.offpolicy.PREFIX_MAX)."""
POOL_MAX = 100


@dataclass(frozen=True, slots=True)
class SlateRule:
    """`share`: P(a feed begins with a drawn slate); `slots` of it, drawn from the `pool` best; `temperature`:
    how far behind the best, as a share of its score (grid integer), halves the chance."""

    share: float = 0.0
    slots: int = 3
    pool: int = 20
    temperature: int = GRID // 10


def slate_rule(section: Section, surface: str) -> SlateRule:
    """The table `slate` of a surface. Raises PolicyError."""
    if surface == "following" and section.values:
        raise section.error("", "draws by score, and following is by time; remove it")
    slots = section.whole("slots", 2, SLOTS_MAX, 3)
    temperature = section.number("temperature", 0.001, 4.0, 0.1)
    rule = SlateRule(
        section.number("share", 0, 0.5, 0.0),
        slots,
        section.whole("pool", slots, POOL_MAX, 20),
        max(int(temperature * GRID + 0.5), 1),
    )
    section.close()
    return rule
