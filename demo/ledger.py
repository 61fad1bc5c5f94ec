"""The ledger: every activity that the broker took is applied, a duplicate, withdrawn or a dead letter.

Its figures are not the worker's counters but the position records that its checkpoints wrote with the rows: a
kill loses counters, never these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from demo.traffic import Sent


@dataclass(frozen=True, slots=True)
class Account:
    """What one partition's newest position record says (docs/state.md); or the sum of several."""

    position: int = 0
    applied: int = 0
    duplicates: int = 0
    withdrawn: int = 0
    dead: int = 0

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Account:
        """From the JSON object under the position's key."""
        return cls(
            *(int(record[name]) for name in ("position", "applied", "duplicates", "withdrawn", "dead"))
        )

    @classmethod
    def total(cls, accounts: Iterable[Account]) -> Account:
        """Field by field."""
        rows = [(a.position, a.applied, a.duplicates, a.withdrawn, a.dead) for a in accounts]
        return cls(*(sum(column) for column in zip(*rows, strict=True)))


@dataclass(frozen=True, slots=True)
class Ledger:
    """`ends`: end of each partition of activities (it began at 0); `accounts`: by partition.

    `simulated`: what the simulated people handed over, `acked` of which the broker confirmed; all else in the
    topic came through the page or `feedrank act`.
    """

    ends: Mapping[int, int]
    accounts: Mapping[int, Account]
    simulated: Sent
    acked: int

    @property
    def sent(self) -> int:
        return sum(self.ends.values())

    @property
    def total(self) -> Account:
        return Account.total(self.accounts.values())

    @property
    def others(self) -> int:
        """Activities that no simulated person sent."""
        return self.sent - self.acked

    def line(self) -> str:
        """The equation, with what is on its two sides."""
        t = self.total
        right = f"{t.applied:,} applied + {t.duplicates:,} duplicates + {t.dead:,} dead-lettered"
        return f"{self.sent:,} sent = {right} + {t.withdrawn:,} withdrawn"

    def problems(self) -> list[str]:
        """Why it does not balance; empty when it does."""
        t, people = self.total, self.simulated
        found = []
        accounted = t.applied + t.duplicates + t.dead + t.withdrawn
        if accounted != self.sent:
            found.append(f"{self.sent:,} sent, but {accounted:,} accounted for")
        for partition, end in sorted(self.ends.items()):
            there = self.accounts.get(partition, Account()).position
            if there != end:
                found.append(f"partition {partition} ends at {end:,}, its last checkpoint is at {there:,}")
        if self.acked != people.activities or self.others < 0:
            found.append(
                f"the simulated people handed over {people.activities:,}; the broker confirmed "
                f"{self.acked:,} and holds {self.sent:,}"
            )
        for what, got, expected in (
            ("duplicates", t.duplicates, people.retried),
            ("dead-lettered", t.dead, people.broken),
            ("withdrawn", t.withdrawn, people.undos),
        ):
            if not expected <= got <= expected + self.others:
                found.append(f"{got:,} {what}, but the simulated people made {expected:,}")
        return found
