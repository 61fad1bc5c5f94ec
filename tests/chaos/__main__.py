"""Chaos: `python -m tests.chaos --seed 7 --faults 50 --minutes 10`.

A generator sends, faults from the seed happen to real processes, then all is settled and compared, byte for
byte, with a run over the same topics to which nothing happened. The last line is the verdict.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from streams.dead_letter_log import read
from tests.chaos.faults import Faults, timed
from tests.chaos.load import Generator
from tests.chaos.watch import GapWatch, VersionWatch
from tests.chaos.world import PARTITIONS, SETTINGS, World
from tests.integration.conftest import drained, lags
from tests.integration.job import Job
from tests.waiting import until

ACTIVITIES_PER_S = 120
USERS_WATCHED = 12
SURFACES = ("for_you", "following")
AFTER_S = 4.0
"""A gap that begins so soon after a fault counts as its."""


@dataclass
class Report:
    """What happened; `wrong` is empty when every promise held."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    gap_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    restarts: Counter[int] = field(default_factory=Counter)
    activities: int = 0
    bad: int = 0
    pages: int = 0
    looks: int = 0
    users: int = 0
    items: int = 0
    feeds: int = 0
    wrong: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people; the verdict comes last."""
        kinds = [
            f"  {kind}: {n} times, longest gap {self.gap_s[kind]:.1f} s" for kind, n in self.faults.items()
        ]
        codes = ", ".join(f"{n} with exit code {code}" for code, n in sorted(self.restarts.items())) or "none"
        return [
            *sorted(kinds),
            f"workers that ended by themselves and were started again: {codes}",
            f"{self.activities} activities, {self.bad} bad records; {self.pages} pages read and "
            f"{self.looks} looks at the group's position meanwhile",
            f"compared: {self.users} rows of user shards, {self.items} of item shards, "
            f"{self.feeds} feeds, dead letters",
            *(f"WRONG: {line}" for line in self.wrong),
            f"seed {self.seed}: {sum(self.faults.values())} faults, "
            + (
                f"{len(self.wrong)} things wrong"
                if self.wrong
                else "nothing lost, nothing twice, never backwards"
            ),
        ]


def run(directory: Path, seed: int, faults: int, seconds: float, brokers: int = 1) -> Report:
    """Do it all; the processes are gone when it returns."""
    report = Report(seed)
    world = World.start(directory, brokers)
    try:
        generator = _break(world, report, faults, seconds)
        compare(world, report, generator)
    finally:
        world.close()
    return report


def _break(world: World, report: Report, count: int, seconds: float) -> Generator:
    generator = Generator(world.job.bootstrap, report.seed, int(seconds * ACTIVITIES_PER_S), seconds)
    generator.send_items()
    for slot in world.slots:
        world.launch(slot)
    versions = VersionWatch(world.job.redis_url, world.job.namespace, generator.users[:USERS_WATCHED])
    gaps = GapWatch(world.job.bootstrap, world.names, PARTITIONS)
    for thread in (generator, versions, gaps):
        thread.start()
    chance = random.Random(report.seed)
    drawn, began, spans = Faults(world, versions, chance), time.monotonic(), []
    for n in range(count):
        kind = drawn.draw()
        spans.append((kind, *timed(drawn.kinds[kind])))
        report.faults[kind] += 1
        world.supervise(max(0.0, began + (n + 1) * seconds / count - time.monotonic()))
    generator.join()
    until_drained(world)
    gaps.stop()
    versions.stop()
    for gap in gaps.gaps:
        kind = next((k for k, at, end in spans if at <= gap.ended_s and gap.began_s <= end + AFTER_S), "")
        report.gap_s[kind] = max(report.gap_s[kind], gap.seconds)
    report.restarts, report.activities, report.bad = world.restarts, generator.sent, generator.bad
    report.pages, report.looks = versions.pages, gaps.looks
    report.wrong += [f"the generator: {line}" for line in generator.failed[:3]]
    report.wrong += [f"a version went backwards: {line}" for line in versions.backwards[:5]]
    return generator


def until_drained(world: World) -> None:
    def looked() -> bool:
        world.supervise(0)
        return drained(world.job)

    try:
        until(looked, "all activities are applied after the last fault", lambda: lags(world.job))
    except AssertionError as error:
        for line in world.standing():
            error.add_note(line)
        raise


def compare(world: World, report: Report, generator: Generator) -> None:
    job, as_of_ms = world.job, generator.as_of_ms
    job.settle(as_of_ms)
    again = world.directory / "calm"
    again.mkdir()
    with Job(job.bootstrap, job.redis_url, again, "calm", dict(SETTINGS)) as calm:
        calm.create_topics(PARTITIONS, len(world.brokers))
        calm.start_worker()
        calm.settle(as_of_ms)
        compared = []
        for name in ("users_changelog", "item_rows_changelog"):
            ours, theirs = (one.rows(getattr(one.names, name)) for one in (job, calm))
            wrong = [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)]
            report.wrong += [f"{name}: {len(wrong)} of {len(theirs)} rows differ, {wrong[:3]}"] * bool(wrong)
            compared.append(len(theirs))
        report.users, report.items = compared
        for surface in SURFACES:
            feeds, expected = (one.settled_feeds(surface, as_of_ms) for one in (job, calm))
            report.feeds += len(expected)
            report.wrong += [f"settled feeds of {surface} differ"] * (feeds != expected)
        _compare_letters(job, calm, report)
    if not report.feeds or not report.pages:
        report.wrong.append("no feed was made or none was read: nothing was shown")


def _compare_letters(job: Job, calm: Job, report: Report) -> None:
    letters = read(job.kafka)
    for one in (job, calm):
        places = Counter((x.topic, x.partition, x.offset) for x in letters if x.group == one.names.group)
        doubled = sum(n > 1 for n in places.values())
        if len(places) != report.bad or doubled:
            report.wrong.append(
                f"{one.namespace}: {len(places)} of {report.bad} dead letters, {doubled} doubled"
            )


def main() -> int:
    """Exit code 1 when anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Faults on real processes.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--brokers", type=int, default=1, choices=(1, 3))
    parser.add_argument("--directory", type=Path, help="where logs stay; none: a temporary one")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="feedrank-chaos-") as temporary:
        directory = chosen.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        report = run(directory, chosen.seed, chosen.faults, chosen.minutes * 60, chosen.brokers)
    print("\n".join(report.lines()))
    return bool(report.wrong)


if __name__ == "__main__":
    sys.exit(main())
