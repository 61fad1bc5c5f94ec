"""What clients post is checked by name, completed, and understood as something to hide."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import activities
from serving.activities import POSTED_MAX, Mark, mark_of, parse_posted, visit
from serving.errors import WrongRequestError
from serving.verbs import DeclaredVerb, Verbs
from serving.visits import USERS_MAX, Visits
from streams import limits

NOW_MS = 1_700_000_000_000
GOOD = {"actor": "ann", "verb": "like", "object": "i1"}
VERBS = Verbs.of(
    [
        DeclaredVerb("like", "strong", affinity=8),
        DeclaredVerb("hide", "negative", affinity=-8),
        DeclaredVerb("not_interested", "negative", affinity=-12),
        DeclaredVerb("skip", "negative"),
        DeclaredVerb("follow", "graph", "follow"),
        DeclaredVerb("mute", "graph", "mute"),
        DeclaredVerb("block", "graph", "block"),
        DeclaredVerb("undo", "undo"),
        DeclaredVerb("visit", "weak", makes_due=True),
    ]
)


def parse(row: object, verbs: Verbs = VERBS) -> list[dict[str, Any]]:
    return parse_posted(orjson.dumps(row), NOW_MS, verbs)


def test_one_activity_is_completed_with_an_id_and_the_time() -> None:
    (one,) = parse(GOOD)
    assert one["event_time"] == NOW_MS
    assert len(one["activity_id"]) == 32
    assert parse(GOOD)[0]["activity_id"] != one["activity_id"]


def test_what_the_client_says_is_kept_and_nulls_are_absent() -> None:
    full = GOOD | {
        "activity_id": "a",
        "event_time": NOW_MS - 5,
        "position": 3,
        "slate_id": "s",
        "dwell_ms": 9,
    }
    assert parse([full | {"target": None}, GOOD])[0] == full


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"actor": None}, "actor is missing"),
        ({"object": ""}, "object has 0 bytes"),
        ({"object": "é" * 65}, "object has 130 bytes"),
        ({"actor": 7}, "actor is not a string"),
        ({"actor": "}x"}, "begins with"),
        ({"slate_id": "a\nb"}, "control character"),
        ({"verb": "adore"}, "the policy declares block, follow, hide, like, mute"),
        ({"verb": ["like"]}, "the policy declares"),
        ({"position": -1}, "between 0 and 32,767"),
        ({"position": True}, "between 0 and 32,767"),
        ({"dwell_ms": 1.5}, "is an integer"),
        ({"event_time": 1_700_000_000}, "event_time is 1700000000"),
        ({"event_time": NOW_MS + 300_001}, "5 minutes ahead"),
        ({"target": "planet"}, "write author, topic, keyword"),
        ({"verb": "undo"}, "an undo needs"),
        ({"verb": "undo", "undone_verb": "undo", "undone_event_time": NOW_MS}, "cannot be undone"),
        ({"colour": "red"}, "colour is not a field"),
    ],
)
def test_a_mistake_is_named(change: dict[str, Any], says: str) -> None:
    with pytest.raises(WrongRequestError, match=says) as caught:
        parse([GOOD, GOOD | change])
    assert "activity 1" in caught.value.message
    assert "nothing was sent" in caught.value.message


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[1]", b'"x"', b"null"])
def test_what_is_no_activity_is_refused(body: bytes) -> None:
    with pytest.raises(WrongRequestError):
        parse_posted(body, NOW_MS, VERBS)


def test_too_many_at_once_are_refused() -> None:
    with pytest.raises(WrongRequestError, match="1 to 500"):
        parse([GOOD] * (POSTED_MAX + 1))


@settings(max_examples=40)
@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_any_json_is_taken_or_refused(value: object) -> None:
    try:
        parsed = parse_posted(orjson.dumps(value), NOW_MS, VERBS)
    except (WrongRequestError, TypeError):  # TypeError: integers that orjson can't write
        return
    assert all({"actor", "verb", "object"} <= a.keys() for a in parsed)


@pytest.mark.parametrize(
    ("change", "mark"),
    [
        ({"verb": "like"}, None),
        ({"verb": "skip"}, None),
        ({"verb": "follow"}, None),
        ({"verb": "hide"}, Mark("ann", "item", "i1", True)),
        ({"verb": "not_interested"}, Mark("ann", "item", "i1", True)),
        ({"verb": "block"}, Mark("ann", "author", "i1", True)),
        ({"verb": "mute", "target": "topic"}, Mark("ann", "topic", "i1", True)),
        ({"verb": "mute", "target": "keyword"}, None),
        ({"verb": "undo", "undone_verb": "hide"}, Mark("ann", "item", "i1", False)),
        ({"verb": "undo", "undone_verb": "like"}, None),
    ],
)
def test_what_is_hidden_at_once(change: dict[str, Any], mark: Mark | None) -> None:
    assert mark_of(GOOD | change, VERBS) == mark


def test_limits_are_those_of_the_worker() -> None:
    names = ("EVENT_TIME_MS_MIN", "EVENT_TIME_MS_MAX", "CLOCK_AHEAD_MS_MAX", "DWELL_MS_MAX", "POSITION_MAX")
    assert {n: getattr(activities, n) for n in names} == {n: getattr(limits, n) for n in names}


def test_a_visit_is_an_activity_that_passes_the_checks() -> None:
    one = visit("ann", "visit", NOW_MS)
    assert parse([one]) == [one]


WEAK, STRONG = DeclaredVerb("click", "weak", value=1.0, makes_due=True), DeclaredVerb("visit", "strong")
SIGN, LATER = DeclaredVerb("open", "weak", makes_due=True), DeclaredVerb("visit", "weak")


@pytest.mark.parametrize(
    ("verbs", "visit"),
    [
        ([WEAK, SIGN, LATER], "visit"),
        ([WEAK, SIGN], "open"),
        ([STRONG, SIGN], "open"),
        ([WEAK, STRONG], None),
        ([DeclaredVerb("scroll", "weak"), DeclaredVerb("visit", "weak", affinity=1, makes_due=True)], None),
        ([DeclaredVerb("visit", "exposure", makes_due=True)], None),
    ],
)
def test_a_visit_is_a_verb_that_is_no_action_on_an_item(verbs: list[DeclaredVerb], visit: str | None) -> None:
    assert Verbs.of(verbs).visit == visit


def test_remembered_visitors_are_bounded() -> None:
    visits = Visits()
    for i in range(USERS_MAX + 10):
        visits.worth_telling(str(i), 0.0)
    assert visits.worth_telling("0", 1.0)
    assert not visits.worth_telling(str(USERS_MAX), 1.0)
