"""One measured figure beside its peer: what `feedrank bench NAME --json` prints, one object a line."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value.

    `goal` is in `unit`, or for `goal_on="ratio"` a ratio to the peer; `better` says which way is better.
    A figure without goal has `met` None.
    """

    name: str
    subject: str
    value: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    goal: float | None = None
    goal_on: str = "value"
    better: str = "higher"
    cpu_s: float | None = None
    peak_mb: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer; above 1 is better, whatever the unit."""
        if not self.peer_value or not self.value:
            return None
        return self.value / self.peer_value if self.better == "higher" else self.peer_value / self.value

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without a goal or without a value to judge."""
        judged = self.ratio if self.goal_on == "ratio" else self.value
        if self.goal is None or judged is None:
            return None
        if self.goal_on == "ratio" or self.better == "higher":
            return judged >= self.goal
        return judged <= self.goal

    def fields(self) -> dict[str, object]:
        """What the JSON line holds, in its order."""
        return {
            "name": self.name,
            "subject": self.subject,
            "value": _rounded(self.value),
            "unit": self.unit,
            "peer": self.peer,
            "peer_value": _rounded(self.peer_value),
            "ratio": _rounded(self.ratio),
            "goal": self.goal,
            "met": self.met,
            "goal_on": self.goal_on,
            "cpu_s": _rounded(self.cpu_s),
            "peak_mb": _rounded(self.peak_mb),
            "note": self.note,
        }


def from_line(line: str) -> dict[str, object]:
    """The fields of a JSON line that a script printed; what it leaves out is null.

    Raises ValueError for a line without name, subject, value and unit.
    """
    found = json.loads(line)
    missing = {"name", "subject", "value", "unit"} - set(found)
    if missing:
        raise ValueError(f"a benchmark printed a line without {sorted(missing)}: {line}")
    empty = Figure("", "", 0.0, "").fields()
    return {name: found.get(name, empty[name]) for name in empty}


def _rounded(value: float | None) -> float | None:
    """Four significant digits: more would be noise."""
    return None if value is None else float(f"{value:.4g}")
