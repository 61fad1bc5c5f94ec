"""Whatever cuts and interrupts a replay, its digest is the oracle's."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.integration.test_oracle import as_event, told
from tests.oracle.digest import digest
from tests.oracle.made_up import Size, Stream
from tests.shadows import BUNDLED, TICK_MS, define, run_all, settings


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
