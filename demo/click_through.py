"""Clicks per impression of a group of people, with intervals that know that one person gives many of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

Z_95 = 1.96
PEOPLE_FOR_SPREAD_MIN = 8
"""With fewer people their spread says nothing; impressions then count as independent."""


@dataclass(frozen=True, slots=True)
class Rate:
    """`clicks` of `impressions`, worth `effective` independent impressions (all of them where not given).

    >>> low, high = Rate(1_000, 100).interval()
    >>> low < 0.1 < high
    True
    """

    impressions: int = 0
    clicks: int = 0
    effective: float | None = None

    @property
    def value(self) -> float:
        return self.clicks / self.impressions if self.impressions else 0.0

    def interval(self, z: float = Z_95) -> tuple[float, float]:
        """(low, high); E. B. Wilson, Probable inference, JASA 22 (1927), at the effective sample size."""
        n = self.impressions if self.effective is None else self.effective
        if n <= 0:
            return 0.0, 1.0
        p, z2 = self.value, z * z
        middle = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
        return max(0.0, middle - half), min(1.0, middle + half)

    def minus(self, other: Rate) -> tuple[float, float, float]:
        """(difference, low, high): Newcombe's hybrid score interval (Statistics in Medicine 17, 1998).

        >>> difference, low, high = Rate(1_000, 200).minus(Rate(1_000, 100))
        >>> round(difference, 3), low > 0
        (0.1, True)
        """
        (low, high), (other_low, other_high) = self.interval(), other.interval()
        difference = self.value - other.value
        down = math.hypot(self.value - low, other_high - other.value)
        up = math.hypot(high - self.value, other.value - other_low)
        return difference, difference - down, difference + up


@dataclass(slots=True)
class ClickThrough:
    """Counts one group's impressions and clicks by person.

    People differ, so a person's impressions are alike: the effective sample is what the spread between people
    says (the linearised variance of a ratio; Cochran, Sampling Techniques, chapter 6), never more than the
    impressions themselves.
    """

    _shown: dict[str, int] = field(default_factory=dict)
    _clicked: dict[str, int] = field(default_factory=dict)

    def shown(self, person: str) -> None:
        """One impression."""
        self._shown[person] = self._shown.get(person, 0) + 1

    def clicked(self, person: str) -> None:
        """One click."""
        self._clicked[person] = self._clicked.get(person, 0) + 1

    def rate(self) -> Rate:
        """The group's rate so far."""
        pairs = [(n, self._clicked.get(person, 0)) for person, n in self._shown.items()]
        impressions, clicks = sum(n for n, _ in pairs), sum(c for _, c in pairs)
        return Rate(impressions, clicks, effective_impressions(pairs))


def effective_impressions(pairs: Iterable[tuple[int, int]]) -> float:
    """Independent impressions that would give the same variance. `pairs`: (impressions, clicks) by person.

    >>> alike = [(100, 10)] * 50
    >>> effective_impressions(alike)
    5000.0
    >>> effective_impressions([(100, 0), (100, 20)] * 25) < 1_500
    True
    """
    people = list(pairs)
    impressions, clicks = sum(n for n, _ in people), sum(c for _, c in people)
    if len(people) < PEOPLE_FOR_SPREAD_MIN or not 0 < clicks < impressions:
        return float(impressions)
    p = clicks / impressions
    squares = sum((c - p * n) ** 2 for n, c in people) * len(people) / (len(people) - 1)
    if not squares:
        return float(impressions)
    return min(float(impressions), p * (1 - p) * impressions * impressions / squares)
