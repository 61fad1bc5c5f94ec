"""Small versions of the hard inputs, on one worker with room for few rows; `make hard` is the real thing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hard.cases import CROWD_WATCHED, WATCHED, burst, crowd, favourite, refill
from tests.hard.scene import scene

pytestmark = pytest.mark.kafka


def test_hard_inputs_lose_nothing_and_stay_bounded(tmp_path: Path) -> None:
    with scene(tmp_path, 1_000, [*CROWD_WATCHED, *WATCHED]) as one:
        for lines in (refill(one, 200), crowd(one, 9_000), favourite(one, 6_000), burst(one, 4.0, 6_000)):
            print("\n".join(lines))
        assert one.compare() > 200
        assert not one.wrong
