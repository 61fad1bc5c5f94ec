"""How much is done in one hold of the event loop (4): as much as LOOP_HOLD_MS_MAX allows here and now."""

from __future__ import annotations

from dataclasses import dataclass

HOLD_SHARE = 0.8
"""Of the longest hold that is allowed: what a slice should take, so that one that takes longer still fits."""


@dataclass(slots=True)
class SliceSize:
    """Records of a slice: `most`, or fewer where that holds the loop for too long, but not below `least`,
    where most of the time is what every slice costs.

    What shares a slice never shows in rows. It begins with `least`, grows by 1/16, shrinks by 1/5. A block is
    cut into equal slices, which are smaller than asked for, by up to a half; they say what a whole one takes.

    >>> size = SliceSize(most=2_000, least=250, hold_ms_max=10)
    >>> size.took(250, 0.002); size.now
    266
    >>> size.took(200, 0.002); size.now
    283
    >>> size.took(200, 0.007); size.took(100, 0.001); size.now
    283
    >>> size.took(283, 0.012); size.now
    250
    """

    most: int
    least: int
    hold_ms_max: int
    now: int = 0

    def __post_init__(self) -> None:
        self.now = min(self.least, self.most)

    def took(self, records: int, seconds: float) -> None:
        """A slice of so many records held the loop for so long, in CPU time: other processes do not count."""
        hold_s = self.hold_ms_max / 1_000 * HOLD_SHARE
        if seconds > hold_s:
            self.now = max(min(self.least, self.most), min(self.now, records) * 4 // 5)
        elif 2 * records > self.now and seconds * self.now <= hold_s * records:
            self.now = min(self.most, self.now + self.now // 16 + 1)
