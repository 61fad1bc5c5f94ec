"""Hard inputs: `python -m tests.hard [crowd favourite burst refill] [--users 1000000 ...]`; `make hard`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.hard.cases import CROWD_WATCHED, WATCHED, burst, crowd, favourite, refill
from tests.hard.scene import FEEDS_PER_S, FEW_FEEDS_PER_S, Scene, scene

CASES = ("favourite", "crowd", "burst", "refill")
ARENA_SHARE = 40
"""Of the crowd, one in so many rows has room in the memory of each partition."""


def play(one: Scene, case: str, asked: argparse.Namespace) -> None:
    """One case, printed as it goes."""
    if case == "favourite":
        lines = favourite(one, asked.activities)
    elif case == "crowd":
        lines = crowd(one, asked.users)
    elif case == "burst":
        lines = burst(one, asked.pause_s, asked.activities)
    else:
        lines = refill(one, asked.active)
    for line in lines:
        print(line, flush=True)


def main() -> int:
    """Exit code 1 when anything did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.hard", description=__doc__)
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--users", type=int, default=1_000_000, help="of the crowd")
    parser.add_argument("--activities", type=int, default=200_000)
    parser.add_argument("--pause-s", type=float, default=60.0)
    parser.add_argument("--active", type=int, default=100_000, help="users whose feeds Redis forgets")
    asked = parser.parse_args()
    wrong: list[str] = []
    for case in asked.cases:
        began = time.monotonic()
        arena, feeds_per_s = 200_000, FEEDS_PER_S
        if case == "crowd":
            arena, feeds_per_s = asked.users // ARENA_SHARE, FEW_FEEDS_PER_S
        with (
            tempfile.TemporaryDirectory(prefix="feedrank-hard-") as directory,
            scene(Path(directory), arena, [*CROWD_WATCHED, *WATCHED], feeds_per_s) as one,
        ):
            play(one, case, asked)
            rows = one.compare()
            print(
                f"{case}: {rows} rows of watched users compared, {time.monotonic() - began:.0f} s", flush=True
            )
            wrong += [f"{case}: {what}" for what in one.wrong]
    print("\n".join([*(f"WRONG: {what}" for what in wrong), f"hard: {len(wrong)} things wrong"]))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
