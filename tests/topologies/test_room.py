"""Room is made ahead of what is used, once, and never beyond what is reserved."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from topologies import room
from topologies.room import AHEAD_ROWS, Room


class Opened:
    """Stands for a shard: it can be remembered."""


class Asked:
    """What `populate` was asked for; `known`: whether the system knows how."""

    def __init__(self, known: bool = True) -> None:
        self.known, self.calls = known, list[tuple[int, int, int]]()

    def __call__(self, array: Any, first: int, last: int) -> bool:
        self.calls.append((len(array), first, last))
        return self.known


def made(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> Room:
    monkeypatch.setattr(room, "populate", asked)
    return Room(None, None)  # type: ignore[arg-type]  # `make` is given the shards


def test_each_array_is_kept_ahead_of_what_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, shard, half = Asked(), Opened(), AHEAD_ROWS // 2
    keeper, many, few = made(asked, monkeypatch), np.zeros(100_000), np.zeros(10)
    for used in (0, 0, half, half + 1, 3 * AHEAD_ROWS, 100_000):
        assert keeper.make([(shard, [(many, used), (few, min(used, 10))])])  # type: ignore[list-item]
    assert [call for call in asked.calls if call[0] == 10] == [(10, 0, 10)]
    assert [call[1:] for call in asked.calls if call[0] != 10] == [
        (0, AHEAD_ROWS),
        (AHEAD_ROWS, half + 1 + AHEAD_ROWS),
        (half + 1 + AHEAD_ROWS, 4 * AHEAD_ROWS),
        (4 * AHEAD_ROWS, 100_000),
    ]


def test_a_shard_that_is_opened_anew_gets_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, array = Asked(), np.zeros(100_000)
    keeper = made(asked, monkeypatch)
    for _ in range(2):
        assert keeper.make([(Opened(), [(array, 0)])])  # type: ignore[list-item]
    assert len(asked.calls) == 2


def test_it_ends_where_the_system_does_not_know_how(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(known=False)
    keeper = made(asked, monkeypatch)
    monkeypatch.setattr(Room, "_reserved", lambda self: iter([(Opened(), [(np.zeros(9), 0)])]))
    asyncio.run(keeper.run())
    assert len(asked.calls) == 1
