"""Small versions of the hard inputs, on one worker with room for few rows; `make hard` is the real thing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hard.cases import CROWD_WATCHED, WATCHED, burst, crowd, favourite, refill
from tests.hard.scene import Scene, scene

pytestmark = pytest.mark.kafka


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path, 1_000, [*CROWD_WATCHED, *WATCHED]) as found:
        yield found


def played(one: Scene, *cases: Iterator[str]) -> None:
    print("\n".join(line for lines in cases for line in lines))
    assert one.compare() > 200
    assert not one.wrong


def test_a_redis_that_forgot_and_a_crowd_with_a_star(one: Scene) -> None:
    played(one, refill(one, 200), crowd(one, 9_000))


@pytest.mark.full
def test_a_favourite_and_a_burst_while_redis_is_away(one: Scene) -> None:
    played(one, favourite(one, 10_000), burst(one, 5.0, 10_000))
