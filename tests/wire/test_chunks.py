"""Entries become JSON chunks and come back; what can't be stored is refused."""

from __future__ import annotations

import math

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.chunks import (
    CHUNK_ENTRIES,
    CHUNKS_MAX,
    ENTRIES_MAX,
    Entries,
    Entry,
    decode_chunk,
    item_part,
    reason_part,
)

TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
ENTRY = st.builds(
    Entry,
    TEXT,
    TEXT,
    st.integers(0, 2**50),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXT,
    st.lists(TEXT, max_size=3).map(tuple),
    st.none() | TEXT,
    st.none() | TEXT,
    st.lists(TEXT, max_size=2).map(tuple),
)


@given(st.lists(ENTRY, max_size=60))
def test_what_is_written_is_read_back_in_order(entries: list[Entry]) -> None:
    chunks = Entries.of(entries).chunks()
    assert [e for chunk in chunks for e in decode_chunk(chunk)] == entries
    assert [len(decode_chunk(c)) for c in chunks[:-1]] == [CHUNK_ENTRIES] * (len(chunks) - 1)


def test_a_chunk_is_plain_json_with_the_documented_fields() -> None:
    entries = Entries.of([Entry("i", "a", 5, 0.25, "trending", ("popular",), "g", 'A "title"', ("jazz",))])
    assert orjson.loads(entries.chunks()[0]) == [
        {
            "id": "i",
            "author": "a",
            "created_at": 5,
            "title": 'A "title"',
            "topics": ["jazz"],
            "score": 0.25,
            "source": "trending",
            "why": ["popular"],
            "group": "g",
        }
    ]


def test_optional_fields_are_absent_not_null() -> None:
    row = orjson.loads(Entries.of([Entry("i", "a", 5, 1.0, "explore")]).chunks()[0])[0]
    assert row.keys() == {"id", "author", "created_at", "score", "source", "why"}


def test_scores_may_be_an_array() -> None:
    entries = Entries([item_part("i", "a", 1)] * 2, np.array([0.5, -2.0]), [reason_part("s")] * 2)
    assert [e.score for e in decode_chunk(entries.chunks()[0])] == [0.5, -2.0]


def test_no_entries_make_no_chunks() -> None:
    assert Entries.of([]).chunks() == []


def test_the_longest_feed_fits_and_one_more_is_refused() -> None:
    longest = [Entry(str(i), "a", 1, 1.0, "s") for i in range(ENTRIES_MAX)]
    assert len(Entries.of(longest).chunks()) == CHUNKS_MAX
    with pytest.raises(ValueError, match="at most 500"):
        Entries.of([*longest, longest[0]])


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_json_cannot_hold_is_refused(score: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Entries.of([Entry("i", "a", 1, score, "s")]).chunks()


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="one of each"):
        Entries([b""], [], [b""])


NO_CHUNKS = [b"[1]", b"[{}]", b"{}", b"[null]", b"1", b'""', b'[{"id":1}]']


@given(st.binary(max_size=40).filter(lambda data: data.strip() != b"[]") | st.sampled_from(NO_CHUNKS))
def test_what_is_no_chunk_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a chunk"):
        decode_chunk(data)


def test_fields_of_a_later_version_are_ignored() -> None:
    row = b'[{"id":"i","author":"a","created_at":1,"score":1,"source":"s","why":[],"new":{}}]'
    assert decode_chunk(row) == [Entry("i", "a", 1, 1, "s")]
