"""Cursors survive the round trip; anything else is one clear error."""

from __future__ import annotations

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wire.cursor import CURSOR_CHARS_MAX, Cursor, WrongCursorError
from wire.names import SURFACES
from wire.version import Version

TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)
CURSOR = st.builds(
    Cursor,
    st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,31}\Z"),
    st.sampled_from(SURFACES),
    st.just("") | st.builds(Version, *[st.integers(0, 10**5)] * 4).map(str),
    st.integers(0, 10_000),
    st.integers(0, 10_000),
    st.integers(0, 2**45),
    st.sampled_from(["", "no_feed"]),
    st.sampled_from(["feed", "global"]) | TEXT.map("topic:{}".format),
)


@given(CURSOR, TEXT)
def test_a_cursor_comes_back_as_it_was(cursor: Cursor, user: str) -> None:
    text = cursor.encode(user)
    assert len(text) <= CURSOR_CHARS_MAX
    assert Cursor.decode(text, user, cursor.surface) == cursor


@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda b: base64.urlsafe_b64encode(b).decode()))
@example("")
@example("é")
@example("x" * (CURSOR_CHARS_MAX + 1))
@example("MS4wMDAwMDAwMC4")
def test_anything_else_is_refused_with_what_to_do(text: str) -> None:
    with pytest.raises(WrongCursorError, match="ask again without"):
        Cursor.decode(text, "ann", "for_you")


@given(CURSOR, st.data())
def test_one_changed_character_is_found(cursor: Cursor, data: st.DataObject) -> None:
    text = cursor.encode("ann")
    at = data.draw(st.integers(0, len(text) - 2))  # the last may hold unused bits
    other = data.draw(st.sampled_from("abcXYZ019-_").filter(lambda c: c != text[at]))
    with pytest.raises(WrongCursorError):
        Cursor.decode(text[:at] + other + text[at + 1 :], "ann", cursor.surface)


@given(CURSOR)
def test_a_cursor_of_someone_else_is_refused(cursor: Cursor) -> None:
    with pytest.raises(WrongCursorError, match="another user"):
        Cursor.decode(cursor.encode("ann"), "bob", cursor.surface)


def test_a_cursor_of_another_surface_is_refused_by_name() -> None:
    text = Cursor("live", "following", "", 0, 0, 0, "", "feed").encode("ann")
    with pytest.raises(WrongCursorError, match="'following', not 'for_you'"):
        Cursor.decode(text, "ann", "for_you")


@pytest.mark.parametrize(
    "wrong",
    [
        Cursor("NO", "for_you", "", 0, 0, 0, "", "feed"),
        Cursor("live", "nowhere", "", 0, 0, 0, "", "feed"),
        Cursor("live", "for_you", "v1", 0, 0, 0, "", "feed"),
        Cursor("live", "for_you", "", -1, 0, 0, "", "feed"),
        Cursor("live", "for_you", "", 10**6, 0, 0, "", "feed"),
        Cursor("live", "for_you", "", 0, 10**6, 0, "", "feed"),
        Cursor("live", "for_you", "", 0, 0, 2**60, "", "feed"),
        Cursor("live", "for_you", "", 0, 0, 0, "", "elsewhere"),
    ],
    ids=str,
)
def test_fields_made_by_hand_are_checked_too(wrong: Cursor) -> None:
    with pytest.raises(WrongCursorError, match="ask again without"):
        Cursor.decode(wrong.encode("ann"), "ann", wrong.surface)
