"""Parts of entries are made once, and again when they are forgotten."""

from __future__ import annotations

import numpy as np

from topologies.kept_parts import KeptParts


class Made:
    """Parts of numbers, and which were made."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def __call__(self, number: int) -> str:
        self.numbers.append(number)
        return f"part {number}"


def test_each_part_is_made_once() -> None:
    parts, made = KeptParts[str](100), Made()
    assert parts.take(np.array([7, 2, 7]), made) == ["part 7", "part 2", "part 7"]
    assert parts.take(np.array([2, 7, 900]), made) == ["part 2", "part 7", "part 900"]
    assert made.numbers == [2, 7, 900]


def test_no_numbers_have_no_parts() -> None:
    assert KeptParts[str](100).take(np.array([], np.int64), Made()) == []


def test_what_is_forgotten_is_made_again_and_what_was_never_there_does_no_harm() -> None:
    parts, made = KeptParts[str](100), Made()
    parts.forget(np.array([0]))
    parts.take(np.array([0, 1, 2]), made)
    parts.forget(np.array([-1, 1, 5_000]))
    assert parts.take(np.array([0, 1, 2]), made) == ["part 0", "part 1", "part 2"]
    assert made.numbers == [0, 1, 2, 1]


def test_all_are_dropped_when_there_are_too_many() -> None:
    parts, made = KeptParts[str](3), Made()
    for first in range(0, 40, 2):
        assert parts.take(np.array([first, first + 1]), made) == [f"part {first}", f"part {first + 1}"]
        assert parts.take(np.array([first + 1]), made) == [f"part {first + 1}"]
    assert made.numbers == list(range(40))
    assert parts.take(np.array([0]), made) == ["part 0"]
    assert made.numbers[-1] == 0
