"""`feedrank dataset`: files become rows; what is odd in them is an error or is counted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feedrank.cli import run
from feedrank.dataset import table
from feedrank.dataset.events import past_of
from feedrank.dataset.rows import Wanted, rows
from feedrank.load.events import ActivityEvent, Event, ItemEvent
from models.features import FEATURES
from models.labels import SPLITS, join
from streams.errors import ExitCode, OperatorError
from streams.policy_file import read_policy
from tests.feedrank.test_train import data_set
from topologies.model_folder import feature_versions
from topologies.past import Past, Served

MINUTE = 60_000
START = 1_700_000_000_000
POLICY = read_policy()


def line(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind} | fields)


def lines(users: int = 6, hours: int = 12) -> list[str]:
    """Everybody sees three items every hour and clicks the one of their own topic."""
    found = [
        line("item", item_id=f"i{n}", author=f"a{n}", created_at=START, topics=[f"t{n}"]) for n in range(3)
    ]
    for hour in range(hours):
        for user in range(users):
            at, name = START + hour * 60 * MINUTE + user, f"u{user}"
            shown = [
                line("activity", actor=name, verb="impression", object=f"i{n}", event_time=at,
                     position=n, slate_id=f"{name}-{hour}", activity_id=f"{name}-{hour}-{n}")
                for n in range(3)
            ]  # fmt: skip
            click = line("activity", actor=name, verb="click", object=f"i{user % 3}", event_time=at + MINUTE,
                         slate_id=f"{name}-{hour}", activity_id=f"{name}-{hour}-c")  # fmt: skip
            found += [*shown, click]
    return sorted(found, key=lambda one: json.loads(one).get("event_time", 0))


def made(tmp_path: Path, content: list[str], *options: str) -> table.DataSet:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.parquet"
    source.write_text("\n".join(content))
    assert run(["dataset", "jsonl", str(source), str(out), *options]) == 0
    return table.load(out)


def test_impressions_become_rows(tmp_path: Path) -> None:
    data = made(tmp_path, lines())
    assert len(data) == 6 * 11 * 3  # those of the last hour are immature
    assert data.labels[0].sum() == 6 * 11
    assert data.meta["counts"]["impressions immature"] == 18
    assert data.shown.all()
    assert set(data.position.tolist()) == {0, 1, 2}
    names = list(feature_versions())
    topic = data.features[names.index("topic_short_pos")]
    late = data.time_ms > START + 3 * 60 * MINUTE
    assert topic[late & (data.labels[0] == 1)].min() > topic[late & (data.labels[0] == 0)].max()
    assert [SPLITS[s] for s in np.unique(data.split)] == ["train", "valid", "test", "gap"]


def test_features_know_nothing_of_their_own_click(tmp_path: Path) -> None:
    first = [s for s in lines(hours=1) if "u5" in s or '"item"' in s]
    data = made(tmp_path, [*first, line("activity", actor="x", verb="visit", object="home",
                                        event_time=START + 90 * MINUTE)])  # fmt: skip
    names = list(feature_versions())
    assert data.labels[0].sum() == 1
    assert not data.features[names.index("exposures_7d")].any()
    assert not data.features[names.index("topic_short_pos")].any()


def test_no_impressions_is_an_error_that_says_what_was_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(line("activity", actor="u", verb="click", object="i", event_time=START))
    out = tmp_path / "out.parquet"
    assert run(["dataset", "jsonl", str(source), str(out)]) == ExitCode.BAD_INPUT
    assert "1 actions without impression" in capsys.readouterr().err
    assert not out.exists()


def test_a_failed_run_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), table.Writer(tmp_path / "out.parquet"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_other_features_is_refused_with_each_difference(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    features = feature_versions()
    features.pop("age")
    features |= {"trend": 9, "new_one": 1}
    meta = {"format": table.FORMAT, "features": features}
    empty = table.schema().empty_table().replace_schema_metadata({table.META: json.dumps(meta)})
    pq.write_table(empty, path)
    with pytest.raises(OperatorError) as error:
        table.load(path)
    for part in ("new_one is not known here", "age is missing there", "trend is version 9 there and 1 here"):
        assert part in error.value.message


@pytest.mark.parametrize("content", [b"", b"no parquet"])
def test_what_is_no_data_set_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "none.parquet"
    path.write_bytes(content)
    with pytest.raises(OperatorError, match="no data set that can be read"):
        table.load(path)


def test_a_foreign_parquet_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "foreign.parquet")
    with pytest.raises(OperatorError, match="no metadata of feedrank"):
        table.load(tmp_path / "foreign.parquet")
    with pytest.raises(OperatorError, match=r"elsewhere\.parquet is not there; check the path"):
        table.load(tmp_path / "elsewhere.parquet")


@pytest.mark.parametrize("number", [float("nan"), float("-inf"), 1e300])
def test_an_item_whose_embedding_is_no_number_is_named_and_left_out(
    number: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the job refuses it: not a feature of 0 that nobody asked for."""
    bad = line("item", item_id="i0", author="a0", created_at=START, topics=[], embedding=[1.0, number])
    made(tmp_path, [bad, *lines()[1:]])
    said = capsys.readouterr()
    assert "in.jsonl line 1: embedding holds NaN, an infinity or what a 32-bit float cannot" in said.err
    assert "1 bad lines passed over" in said.out


@pytest.mark.parametrize("column", [f"{table.PREFIX}{FEATURES[0].name}", "value"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(tmp_path: Path, column: str, number: float) -> None:
    path = data_set(tmp_path / "x.parquet", rows=20)
    found = pq.read_table(path)
    values = [number, *found.column(column).to_pylist()[1:]]
    place = found.column_names.index(column)
    about = {table.META: pq.read_metadata(path).metadata[table.META]}
    changed = found.set_column(place, column, pa.array(values, pa.float64())).replace_schema_metadata(about)
    pq.write_table(changed, path)
    with pytest.raises(
        OperatorError, match=f"column {column} is double, not int32|value is NaN or infinite in 1"
    ):
        table.load(path)


def served_past(slate_id: str, policy: str = POLICY.version) -> Past:
    """One feed of two items in the served log, one impression of it."""
    version = "000001-000000000000000-000000000001-001700000010000"
    events: list[Event] = [ItemEvent(f"i{n}", "a", START, START, ("t",)) for n in range(3)]
    shown = ActivityEvent("x", "ann", "impression", "i1", START + 20_000, position=0, slate_id=slate_id)
    events += [shown, ActivityEvent("y", "ann", "like", "i1", START + 30_000)]
    events.append(ActivityEvent("z", "ann", "visit", "home", START + 90 * MINUTE))
    past = past_of(events, POLICY.verbs)
    record = {
        "actor": "ann", "surface": "for_you", "version": version, "position": 0, "tick": 170_000_001,
        "as_of_ms": START + 10_000, "seed": "7", "policy": policy, "model": "m", "items": ["i1", "i2"],
        "scores": [2.0, 1.0], "explored": [1], "propensities": [0.5],
    }  # fmt: skip
    past.served.append(Served.parse(json.dumps(record).encode(), 0))
    return past


def rows_of(past: Past, candidates: bool = False) -> tuple[list[Any], Counter[str]]:
    counts: Counter[str] = Counter()
    wanted = Wanted(past, join(past.partitions, POLICY.verbs), POLICY, "live", 10_000, 1_000, candidates)
    return list(rows(wanted, counts, lambda done, total: None)), +counts


GOOD = "for_you:live:000001-000000000000000-000000000001-001700000010000:0"


def test_a_served_slate_is_found_by_its_id() -> None:
    found, _ = rows_of(served_past(GOOD))
    ((columns, features),) = found
    assert (columns["item"], columns["strong"].tolist()) == (["i1"], [1])
    assert features.shape == (len(feature_versions()), 1)
    assert columns["as_of_ms"].tolist() == [START + 10_000]


def test_candidates_that_were_not_shown_come_on_request() -> None:
    found, counts = rows_of(served_past(GOOD), candidates=True)
    ((columns, _),) = found
    assert sorted(columns["item"]) == ["i0", "i1", "i2"]
    assert columns["shown"].tolist() == [True, False, False]
    assert columns["strong"].tolist() == [1, 0, 0]
    assert counts["rows not shown"] == 2
    drawn = dict(zip(columns["item"], columns["propensity"].tolist(), strict=True))
    assert drawn["i2"] == 0.5


def test_a_slate_that_nobody_issued_is_counted() -> None:
    assert rows_of(served_past(GOOD + "9999")) == ([], {"impressions of a slate nobody issued": 1})


def test_a_slate_of_another_policy_is_counted() -> None:
    found, counts = rows_of(served_past(GOOD, "other-12345678"))
    assert found == []
    assert counts == {"impressions served under another policy (other-12345678)": 1}


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b'{"items": 3}', b'{"actor": "a", "items": ["i"]}'])
def test_what_is_no_served_record_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="no record of the served log"):
        Served.parse(value, 0)


def test_ranklens_and_openbandit(tmp_path: Path, data_dir: Path) -> None:
    import gzip

    out = tmp_path / "rl.parquet"
    with gzip.open(data_dir / "ranklens/events.jsonl.gz", "rt") as whole:
        (tmp_path / "few.jsonl").write_text("".join(one for one, _ in zip(whole, range(3_000), strict=False)))
    assert run(["dataset", "ranklens", str(tmp_path / "few.jsonl"), str(out)]) == 0
    assert table.load(out).labels[0].mean() > 0.05
    with gzip.open(data_dir / "open_bandit/random_men.csv.gz", "rt") as whole:
        (tmp_path / "few.csv").write_text("".join(one for one, _ in zip(whole, range(400), strict=False)))
    assert run(["dataset", "openbandit", str(tmp_path / "few.csv"), str(out)]) == 0
    found = table.load(out)
    assert np.allclose(found.propensity, 1 / 34)
