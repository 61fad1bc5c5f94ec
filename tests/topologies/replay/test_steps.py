"""Whatever cuts and interrupts a replay, its digest is the oracle's."""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from feedrank.load.events import Event
from tests.integration.test_oracle import as_event, real_events, told
from tests.oracle.digest import digest
from tests.oracle.made_up import Size, Stream
from tests.shadows import BUNDLED, TICK_MS, define, digest_of, run_all, settings
from topologies.replay.run import Replay

REAL_EVENTS = 6_000
ACTIVE_MIN = 20
"""Users of the real stream who are active at its cut."""


class Counting:
    """A watcher that adds up what it hears of each phase, beside the total that it was told."""

    def __init__(self) -> None:
        self.heard: dict[str, list[int | None]] = {}

    def phase(self, name: str, total: int | None) -> None:
        self.name = name
        self.heard[name] = [total, 0]

    def moved(self, count: int) -> bool:
        self.heard[self.name][1] = (self.heard[self.name][1] or 0) + count
        return True


def expected(stream: Stream) -> str:
    world = told(map(as_event, stream.events), BUNDLED)  # type: ignore[arg-type]
    return digest(world, world.settled(stream.end_ms, TICK_MS))


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_replay_has_the_digest_of_the_oracle(tmp_path: Path, interrupted: bool) -> None:
    stream = Stream(1, Size(changing=False))
    shadow = define(tmp_path, "again", map(as_event, stream.events), stream.end_ms)  # type: ignore[arg-type]
    found = run_all(shadow, settings(tmp_path), random.Random(2) if interrupted else None)
    assert found.hash() == expected(stream)
    assert found.feeds.records > 80


@examples(
    max_examples=8,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 1 << 32),
    partitions=st.integers(1, 5),
    slice_records=st.sampled_from([1, 7, 60, 1_000]),
    rows_max=st.sampled_from([8, 15, 1_000]),
    interrupted=st.booleans(),
)
def test_any_stream_in_any_cuts(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    partitions: int,
    slice_records: int,
    rows_max: int,
    interrupted: bool,
) -> None:
    directory = tmp_path_factory.mktemp("any")
    stream = Stream(seed, Size(activities=500, items=80, users=20, changing=False))
    events = [as_event(event) for event in stream.events]  # type: ignore[arg-type]
    world = told(events, BUNDLED, partitions)
    shadow = define(directory, "any", events, stream.end_ms, partitions)
    few = min(rows_max, 16)
    given = settings(directory, REPLAY_RECORDS_MAX=min(slice_records, rows_max), RANK_USERS_MAX=few)
    found = run_all(shadow, given, random.Random(seed) if interrupted else None, rows_max)
    assert found.hash() == digest(world, world.settled(stream.end_ms, TICK_MS))


@pytest.fixture(scope="module")
def real(data_dir: Path) -> list[Event]:
    """The beginning of the real social stream."""
    return list(islice(real_events(data_dir), REAL_EVENTS))


@pytest.mark.parametrize(
    ("partitions", "processes", "slice_records", "interrupted"),
    [(1, 1, 20_000, False), (3, 1, 90, True), (4, 2, 33, False)],
)
def test_the_real_stream_in_any_cuts_and_processes(
    tmp_path: Path,
    real: list[Event],
    partitions: int,
    processes: int,
    slice_records: int,
    interrupted: bool,
) -> None:
    end_ms = max(event.time_ms for event in real) + 1
    world = told(real, BUNDLED, partitions)
    shadow = define(tmp_path, "real", real, end_ms, partitions)
    given = settings(tmp_path, REPLAY_RECORDS_MAX=slice_records)
    if processes > 1:
        watcher = Counting()
        assert Replay(shadow, given, processes, watcher, lambda one: ()).run()
        assert watcher.heard.keys() == {"users", "items", "features", "feeds"}
        assert all(total == heard for total, heard in watcher.heard.values()), watcher.heard
        found = digest_of(shadow)
    else:
        found = run_all(shadow, given, random.Random(partitions) if interrupted else None)
    assert found.hash() == digest(world, world.settled(end_ms, TICK_MS))
    assert found.feeds.records > 2 * ACTIVE_MIN
