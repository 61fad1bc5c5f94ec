"""Batches until so many records were mutated; one line at the end."""

from __future__ import annotations

import argparse
import sys
import time

from tests.fuzz.records import Tally, play

FORMATS = ("avro", "json")


def run(records: int, first: int) -> Tally:
    """Raises AssertionError at the first thing that does not hold."""
    tally, seed = Tally(), first
    while tally.mutated < records:
        play(seed, FORMATS[seed % 2], tally)
        seed += 1
    return tally


def main() -> int:
    """0 when all held."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--from", dest="first", type=int, default=0)
    asked = parser.parse_args()
    began_s = time.monotonic()
    try:
        tally = run(asked.records, asked.first)
    except AssertionError as error:
        print(f"fuzz: FAILED: {error}")
        return 1
    seconds = time.monotonic() - began_s
    print(
        f"fuzz: {tally.mutated} mutated records in {seconds:.0f} s, {tally.refused} dead letters, "
        f"{tally.still_good} still good: every one once, no neighbour touched"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
