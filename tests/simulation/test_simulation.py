"""Seeds that hold, a seed that replays, and what the simulator notices when the product is broken."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.services import ROOT
from tests.simulation.teeth import TEETH

SEEDS = 40
"""With pytest alone; `make test` plays 2,000 others before, with the cores for itself."""
FIRST = 2_000
SEEDS_FULL = 20_000
MINUTES_MAX = 120
NOTICED_WITHIN = 320
"""Seeds, of each broken mechanism; docs/promises.md has the measured numbers, which are smaller."""


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the order of sets and dicts of strings is part of a seed."""
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=60 * MINUTES_MAX,
        check=False,
    )


def test_rows_and_feeds_equal_the_oracle_whatever_goes_wrong() -> None:
    done = simulate("--seeds", str(SEEDS), "--from", str(FIRST))
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = rf"simulation: {SEEDS} seeds from {FIRST}, \d+ turns, \d+ s: all equal the oracle"
    assert re.fullmatch(verdict, done.stdout.splitlines()[-1])


@pytest.mark.full
def test_the_same_for_many_seeds() -> None:
    done = simulate("--seeds", str(SEEDS_FULL), "--from", str(FIRST + SEEDS))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("seed", [8, 29])
def test_a_seed_plays_again_exactly(seed: int) -> None:
    once, again = (simulate("--seed", str(seed), "--verbose") for _ in range(2))
    assert re.search(r"trace [0-9a-f]{8}", once.stdout)
    assert (once.stdout, once.stderr) == (again.stdout, again.stderr)
    assert once.stderr.count("fault: ") > 0 or "'" in once.stdout


@pytest.mark.parametrize("seed", [8, 16, 24, 32])
def test_modelled_disks_do_what_real_ones_do(seed: int) -> None:
    real, modelled = (
        simulate("--seed", str(seed), "--verbose", how) for how in ("--rocksdb", "--no-rocksdb")
    )
    assert (real.stdout, real.stderr) == (modelled.stdout, modelled.stderr)
    assert real.returncode == 0, real.stdout + real.stderr


def test_each_broken_mechanism_is_noticed() -> None:
    done = simulate("--break", "all", "--seeds", str(NOTICED_WITHIN))
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("broken: noticed by number") == len(TEETH)
