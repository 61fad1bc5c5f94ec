"""A feed's version: fixed-width text that sorts, so that Redis can compare without knowing its parts."""

from __future__ import annotations

import re
from typing import NamedTuple

_TEXT = re.compile("-".join(["([0-9]+)"] * 4))


class Version(NamedTuple):
    """Generation (grows at promote and rollback), source position, item tick, as_of in ms.

    >>> str(Version(1, 20, 3, 4000)) < str(Version(1, 20, 4, 0)) < str(Version(2, 0, 0, 0))
    True
    >>> Version.parse(str(Version(1, 20, 3, 4000)))
    Version(generation=1, position=20, tick=3, as_of_ms=4000)
    """

    generation: int
    position: int
    tick: int
    as_of_ms: int

    def __str__(self) -> str:
        return f"{self.generation:06d}-{self.position:015d}-{self.tick:012d}-{self.as_of_ms:015d}"

    @staticmethod
    def reported(stored: str, generation: int) -> str:
        """What a reader calls a stored version: with the route's generation where that is greater.

        >>> Version.reported(str(Version(1, 20, 3, 4000)), 7)
        '000007-000000000000020-000000000003-000000000004000'
        """
        return f"{max(generation, int(stored[:6])):06d}{stored[6:]}" if stored else stored

    @classmethod
    def parse(cls, text: str) -> Version:
        """Raises ValueError when `text` was not made by `str(Version)`."""
        found = _TEXT.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is not a feed version")
        return cls(*map(int, found.groups()))
