"""Labels by the rules of docs/models.md: the unit is an impression."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
import pytest

from models.columns import ActivityColumns
from models.fingerprint import fp64, fp64s
from models.labels import SPLITS, Labelled, join, label_windows, split_by_time
from models.policy import parse_policy

POLICY = parse_policy(files("models").joinpath("default_policy.toml").read_text())
VERBS = POLICY.verbs
MINUTE = 60_000
START = 1_700_000_000_000
END = START + 10 * 86_400_000


def acts(*rows: dict[str, Any]) -> ActivityColumns:
    """Activities: at (minutes), verb, and what differs from ann, item-1, no slate."""
    rows = tuple({"user": "ann", "item": "item-1", "slate": None, "position": -1} | row for row in rows)
    number = np.arange(len(rows))
    times = np.array([START + round(row["at"] * MINUTE) for row in rows], np.int64)
    undone = [VERBS.code[row["undone"]] if "undone" in row else -1 for row in rows]
    return ActivityColumns(
        keys=[row["user"].encode() for row in rows],
        offset=number,
        record_ms=times,
        event_ms=times,
        activity_fp=fp64s(str(row.get("id", n)).encode() for n, row in enumerate(rows)),
        object_fp=fp64s(row["item"].encode() for row in rows),
        verb=np.array([VERBS.code[row["verb"]] for row in rows], np.int16),
        target=np.zeros(len(rows), np.int8),
        dwell_ms=np.array([row.get("dwell_ms", 0) for row in rows], np.int64),
        position=np.array([row["position"] for row in rows], np.int16),
        slate_fp=np.array([fp64(row["slate"].encode()) if row["slate"] else 0 for row in rows], np.uint64),
        undone_verb=np.array(undone, np.int16),
        undone_ms=np.array([START + round(row.get("undone_at", 0) * MINUTE) for row in rows], np.int64),
    )


def joined(*rows: dict[str, Any], **more: Any) -> Labelled:
    return join([acts(*rows)], VERBS, **({"end_ms": END} | more))


SHOWN = {"at": 0, "verb": "impression", "slate": "s", "position": 3}


def test_an_action_joins_by_slate() -> None:
    found = joined(SHOWN, {"at": 5, "verb": "like", "slate": "s"})
    assert found.counts == {"impressions": 1, "actions": 1, "actions joined by slate": 1}
    assert found.by_role(VERBS).tolist() == [[0], [1], [0]]
    assert found.value(VERBS).tolist() == [3.0]
    assert (found.user, found.position.tolist()) == ([b"ann"], [3])


def test_without_a_slate_it_joins_to_the_last_impression_within_the_window() -> None:
    rows = [
        {"at": 0, "verb": "impression", "slate": "s"},
        {"at": 100, "verb": "impression", "slate": "t"},
        {"at": 105, "verb": "click"},
        {"at": 131, "verb": "like"},
    ]
    found = joined(*rows)
    assert found.counts["actions joined by item"] == 1
    assert found.counts["actions after the window"] == 1
    assert found.by_role(VERBS)[0].tolist() == [0, 1]


def test_a_slate_wins_over_a_later_impression() -> None:
    rows = [SHOWN, SHOWN | {"at": 31, "slate": "t"}, {"at": 40, "verb": "click", "slate": "s"}]
    assert joined(*rows, window_s=3_600).by_role(VERBS)[0].tolist() == [1, 0]


def test_repeated_impressions_of_a_session_merge_into_the_first() -> None:
    rows = [SHOWN, SHOWN | {"at": 20, "slate": "t", "position": 0}, {"at": 45, "verb": "like", "slate": "t"}]
    found = joined(*rows)
    assert len(found) == 1
    assert found.counts["impressions merged within a session"] == 1
    assert found.by_role(VERBS)[1].tolist() == [1]
    assert (found.position.tolist(), found.time_ms.tolist()) == ([3], [START])


def test_another_session_is_another_impression() -> None:
    assert len(joined(SHOWN, SHOWN | {"at": 31})) == 2


def test_labels_before_their_impression_do_not_count() -> None:
    found = joined({"at": -1, "verb": "like", "slate": "s"}, SHOWN)
    assert found.counts["actions before their impression"] == 1
    assert not found.verbs.any()


def test_an_action_on_what_was_never_shown_is_counted() -> None:
    found = joined(SHOWN, {"at": 1, "verb": "like", "item": "never"})
    assert found.counts["actions without impression"] == 1


def test_a_retry_counts_once() -> None:
    found = joined(SHOWN | {"id": "a"}, SHOWN | {"id": "a", "at": 1}, {"at": 2, "verb": "like"})
    assert found.counts["repeated activity ids"] == 1
    assert found.counts["impressions"] == 1


def test_an_undo_takes_the_label_back() -> None:
    undo = {"at": 3, "verb": "undo", "undone": "like", "undone_at": 2}
    found = joined(SHOWN, {"at": 2, "verb": "like"}, undo)
    assert not found.by_role(VERBS).any()
    assert found.counts["actions withdrawn"] == 1
    assert joined(SHOWN, undo).counts["undos of nothing that was joined"] == 1


def test_immature_impressions_are_cut() -> None:
    rows = [SHOWN, SHOWN | {"at": 61, "slate": "t"}]
    found = joined(*rows, end_ms=START + 90 * MINUTE)
    assert found.counts["impressions immature"] == 1
    assert found.time_ms.tolist() == [START]
    assert len(joined(*rows, end_ms=START + 91 * MINUTE)) == 2


def test_verbs_without_worth_are_no_labels() -> None:
    found = joined(SHOWN, {"at": 1, "verb": "visit"})
    assert "actions" not in found.counts
    assert label_windows(VERBS)[VERBS.code["visit"]] == -1


def test_a_window_can_be_stated() -> None:
    rows = [SHOWN, {"at": 0.1, "verb": "click"}]
    assert joined(*rows, window_s=5).counts["actions after the window"] == 1
    assert joined(*rows, window_s=6).counts["actions joined by item"] == 1


def test_nothing_at_all() -> None:
    assert len(join([], VERBS)) == 0
    assert join([], VERBS).by_role(VERBS).shape == (3, 0)


def test_the_split_is_by_time_with_a_gap() -> None:
    times = np.arange(1_000, dtype=np.int64) * 1_000
    split = split_by_time(times, gap_ms=10_000)
    names = [SPLITS[s] for s in split.tolist()]
    assert names.index("gap") == 690
    assert (names.count("train"), names.count("valid"), names.count("test")) == (690, 140, 150)
    assert names.count("gap") == 20
    with pytest.raises(ValueError, match="leave nothing to train on"):
        split_by_time(times, 0, 0.5, 0.5)
