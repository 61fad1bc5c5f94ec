"""The command line: many seeds and one line at the end, or one seed told in full."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.simulation.many import say_nothing_of_the_dead, until_noticed, verdicts
from tests.simulation.redis_server import RedisServer
from tests.simulation.simulation import play
from tests.simulation.teeth import TEETH

HASH_SEED = "0"
"""Sets and dicts of strings have an order that differs between processes: part of what a seed has to fix."""


def _many(first: int, count: int, jobs: int, within_s: float | None) -> int:
    began_s, failed, faults = time.monotonic(), list[int](), Counter[str]()
    played = turns = 0
    for one in verdicts(first, count, jobs, within_s):
        played, turns = played + 1, turns + one.turns
        faults.update(one.faults)
        if one.wrong:
            failed.append(one.seed)
            print(f"seed {one.seed} failed: {'; '.join(one.wrong[:4])}")
            print(f"  again: python -m tests.simulation --seed {one.seed} --verbose", flush=True)
    told = ", ".join(f"{name} {number}" for name, number in sorted(faults.items()))
    print(f"faults: {told}")
    seconds = time.monotonic() - began_s
    worst = f"{len(failed)} FAILED (first: {min(failed)})" if failed else "all equal the oracle"
    print(f"simulation: {played} seeds from {first}, {turns} turns, {seconds:.0f} s: {worst}")
    return 1 if failed else 0


def _one(seed: int, verbose: bool, rocksdb: bool | None) -> int:
    say_nothing_of_the_dead()
    with tempfile.TemporaryDirectory() as directory:
        redis = RedisServer(Path(directory))
        try:
            verdict = play(seed, Path(directory) / "disk", redis, verbose, rocksdb)
        finally:
            redis.stop()
    print(f"seed {seed}: {verdict.turns} turns, {verdict.seconds:.1f} s, trace {verdict.trace:08x}")
    print(f"  {verdict.faults}")
    for wrong in verdict.wrong:
        print(f"  {wrong}")
    print("FAILED" if verdict.wrong else "equals the oracle")
    return 1 if verdict.wrong else 0


def _break(mechanisms: list[str], seeds: range) -> int:
    missed = 0
    for mechanism, found in until_noticed(seeds, mechanisms):
        last = found[-1]
        if not last.wrong:
            verdict = f"{len(seeds)} seeds did not notice"
        elif any("TypeError" in wrong for wrong in last.wrong):
            verdict = f"seed {last.seed} noticed how it was broken, not that: {last.wrong[0]}"
        else:
            print(f"{mechanism} broken: noticed by number {len(found)}, seed {last.seed}: {last.wrong[0]}")
            continue
        missed += 1
        print(f"{mechanism} broken: NOT NOTICED, {verdict}", flush=True)
    return 1 if missed else 0


def main() -> int:
    """Returns 0 when every seed held, or noticed what was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--seconds", type=float, help="after so many no more seeds are begun")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--rocksdb", action=argparse.BooleanOptionalAction, help="real ones (default: some)")
    parser.add_argument(
        "--break", dest="mechanism", choices=[*TEETH, "all"], help="see whether it is noticed"
    )
    asked = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        os.environ["PYTHONHASHSEED"] = HASH_SEED
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    if asked.mechanism is not None:
        mechanisms = list(TEETH) if asked.mechanism == "all" else [asked.mechanism]
        return _break(mechanisms, range(asked.first, asked.first + asked.seeds))
    if asked.seed is not None:
        return _one(asked.seed, asked.verbose, asked.rocksdb)
    return _many(asked.first, asked.seeds, asked.jobs, asked.seconds)


if __name__ == "__main__":
    sys.exit(main())
