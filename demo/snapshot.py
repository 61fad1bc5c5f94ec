"""What the demo knows at one moment: the terminal view and the plain lines show the same."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from demo.click_through import Rate
from demo.groups import GROUPS
from demo.visitor import Moved, Shown

LATENCY_S_MAX = 10.0
PLAIN_ITEMS = 5


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Rates are per second over the last seconds; `events` are (second of the run, what happened)."""

    elapsed_s: float = 0.0
    duration_s: float = 0.0
    url: str = ""
    phase: str = ""
    activities_per_s: float = 0.0
    lag: int = 0
    feeds_per_s: float = 0.0
    p50_s: float = math.nan
    p99_s: float = math.nan
    duplicates: int = 0
    undone: int = 0
    dead: int = 0
    items: int = 0
    due: int = 0
    worker_up: bool = True
    groups: Mapping[str, Rate] = field(default_factory=dict)
    shown: Shown | None = None
    now_ms: int = 0
    moved: Moved | None = None
    events: tuple[tuple[float, str], ...] = ()

    def gain(self) -> tuple[float, float, float] | None:
        """Click-through of ranked minus chronological, with its interval; None while one has nothing."""
        ranked, other = self.groups.get("ranked"), self.groups.get("chronological")
        if ranked is None or other is None or not ranked.impressions or not other.impressions:
            return None
        return ranked.minus(other)


def clock(seconds: float) -> str:
    """
    >>> clock(83.9)
    '1:23'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def milliseconds(seconds: float) -> str:
    """
    >>> milliseconds(0.0184), milliseconds(float("nan")), milliseconds(10.0)
    ('18 ms', '-', '> 10 s')
    """
    if math.isnan(seconds):
        return "-"
    return f"> {LATENCY_S_MAX:.0f} s" if seconds >= LATENCY_S_MAX else f"{seconds * 1_000:.0f} ms"


def with_interval(rate: Rate) -> str:
    """
    >>> with_interval(Rate(1_000, 100))
    '10.0 % [8.3, 12.0]'
    """
    if not rate.impressions:
        return "-"
    low, high = rate.interval()
    return f"{rate.value:.1%} [{low * 100:.1f}, {high * 100:.1f}]".replace("%", " %", 1)


def gained(gain: tuple[float, float, float] | None) -> str:
    """
    >>> gained((0.051, 0.03, 0.07))
    '+5.1 [+3.0, +7.0] points'
    """
    if gain is None:
        return "-"
    difference, low, high = (100 * x for x in gain)
    return f"{difference:+.1f} [{low:+.1f}, {high:+.1f}] points"


def plain(snapshot: Snapshot) -> str:
    """One line for those without a terminal."""
    s = snapshot
    through = ", ".join(f"{group} {with_interval(s.groups[group])}" for group in GROUPS if group in s.groups)
    return (
        f"{clock(s.elapsed_s)} {s.activities_per_s:.0f} activities/s, lag {s.lag}, "
        f"{s.feeds_per_s:.0f} feeds/s, event to Redis p50 {milliseconds(s.p50_s)} p99 "
        f"{milliseconds(s.p99_s)}, duplicates {s.duplicates}, undone {s.undone}, "
        f"dead letters {s.dead}; clicks: {through}"
    )


def plain_feed(shown: Shown) -> Iterator[str]:
    """The top of the visitor's feed, with reasons."""
    yield "your feed (user you):"
    for place, entry in enumerate(shown.entries[:PLAIN_ITEMS], 1):
        yield f"  {place}  {entry.id} {entry.title or ''}: {'; '.join(entry.why)}"
