"""Records that may be bad are decoded in parts: each exactly once, in order, whatever is wrong with which."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.batch import RecordBatch
from streams.codec import Decoder
from streams.health import Health
from streams.metrics import Metrics
from tests.streams.codec_cases import NOW_MS, PARTITIONS, TOPIC, VERBS, activity, actor_in, as_json
from tests.topologies.in_process import run
from topologies.clock import StreamClock
from topologies.ingest import UserIngest

ACTOR = actor_in(1)


def batch_of(good: list[bool]) -> RecordBatch:
    values: list[Any] = [
        as_json(activity(actor=ACTOR, activity_id=f"a-{n}")) if fine else b"{" for n, fine in enumerate(good)
    ]
    offsets = np.arange(len(good)) + 7
    keys: list[bytes | None] = [ACTOR.encode()] * len(good)
    stamps = np.full(len(good), NOW_MS)
    return RecordBatch(TOPIC, 1, 7, 7 + len(good), offsets, stamps, keys, values)


@pytest.fixture(scope="module")
def ingest() -> UserIngest:
    decoder = Decoder("json", VERBS, PARTITIONS)
    decoder._unsure_max = 3
    nobody = cast(Any, None)
    return UserIngest(decoder, None, nobody, nobody, StreamClock(None), Metrics(), Health())


@given(st.lists(st.booleans() | st.just(value=True), max_size=80))
def test_each_record_is_decoded_once_and_in_order(ingest: UserIngest, good: list[bool]) -> None:
    columns, dead = run(ingest._decoded(batch_of(good)))
    assert columns.offset.tolist() == [7 + n for n, fine in enumerate(good) if fine]
    assert [letter.offset for letter in dead] == [7 + n for n, fine in enumerate(good) if not fine]
