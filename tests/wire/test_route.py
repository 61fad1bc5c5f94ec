"""The route: the record, the shares, and what a stranger must be able to compute."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.route import Route, Split, WrongRouteError, point

SPLITS = (Split("a", 0.2, "june"), Split("b", 0.3, "june"), Split("c", 0.5, "other"))
USERS = [f"user-{i}" for i in range(4_000)]


def test_the_point_is_four_bytes_of_sha256() -> None:
    digest = hashlib.sha256("june:zoë".encode()).hexdigest()
    assert point("june", "zoë") == int(digest[:8], 16) / 2**32


def test_shares_of_one_salt_do_not_overlap_and_other_salts_draw_anew() -> None:
    route = Route(1, 1, "live", SPLITS)
    got = {name: [u for u in USERS if route.namespace(u) == name] for name in ("a", "b", "c", "live")}
    for name, share in {"a": 0.2, "b": 0.3, "c": 0.25, "live": 0.25}.items():
        assert abs(len(got[name]) / len(USERS) - share) < 0.03
    assert all(point("june", u) < 0.2 for u in got["a"])
    assert all(0.2 <= point("june", u) < 0.5 for u in got["b"])


def test_without_splits_all_read_the_default() -> None:
    assert {Route(1, 1, "live").namespace(u) for u in USERS[:10]} == {"live"}


def test_a_share_of_one_takes_everybody() -> None:
    route = Route(1, 1, "live", (Split("next", 1.0, "s"),))
    assert {route.namespace(u) for u in USERS} == {"next"}


def test_the_record_comes_back() -> None:
    route = Route(3, 2, "live", SPLITS)
    assert Route.decode(route.encode()) == route


def test_splits_may_be_missing() -> None:
    assert Route.decode(b'{"version":1,"generation":1,"default":"live"}') == Route(1, 1, "live")


@pytest.mark.parametrize(
    "splits",
    [
        (Split("a", 1.1, "s"),),
        (Split("a", -0.1, "s"),),
        (Split("a", float("nan"), "s"),),
        (Split("a", 0.6, "s"), Split("b", 0.6, "s")),
        (Split("Not a name", 0.6, "s"),),
        (Split("a", 0.1, "s" * 65),),
        (Split("a", 0.0, "s"),) * 17,
    ],
    ids=str,
)
def test_splits_that_cannot_be_are_refused(splits: tuple[Split, ...]) -> None:
    with pytest.raises(WrongRouteError):
        Route(1, 1, "live", splits)


@given(
    st.binary(max_size=30)
    | st.sampled_from([b"[]", b"{}", b'{"version":1,"generation":1,"default":"live","splits":[{}]}', b"1"])
)
def test_what_is_no_route_is_one_error(record: bytes) -> None:
    with pytest.raises(WrongRouteError, match="set it again"):
        Route.decode(record)
