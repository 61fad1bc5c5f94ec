"""How long the demo waits for what it has started: a slow machine is no failure while something moves."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from demo import run
from demo.run import Demo
from streams.errors import ExitCode, OperatorError

DEADLINE_S = 0.02


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Demo:
    """Its clock goes on by half a deadline with each look."""
    clock = count()
    monkeypatch.setattr(run, "TURN_S", 0.0)
    monkeypatch.setattr("demo.run.time.monotonic", lambda: next(clock) * DEADLINE_S / 2)
    site: Any = SimpleNamespace(children=SimpleNamespace(check=lambda: None), directory=Path("logs"))
    return Demo(site, duration_s=1.0, kill_after_s=0.0)


def test_it_waits_as_long_as_something_moves(demo: Demo) -> None:
    looks = count()
    demo._await("the feed", lambda: next(looks) == 50, DEADLINE_S, moving=count().__next__)
    assert next(looks) == 51


def test_where_nothing_moves_it_says_what_to_do(demo: Demo) -> None:
    with pytest.raises(
        OperatorError, match=r"waited 0 s for the feed; close what else .* logs in logs"
    ) as gave:
        demo._await("the feed", lambda: False, DEADLINE_S, moving=lambda: 1)
    assert gave.value.exit_code == ExitCode.STALLED
