"""Figures judge themselves, the table lands between its markers, and counts are really compared."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import brute, table
from benchmarks.figure import Figure, from_line
from benchmarks.measure import BenchmarkFailed, Contender, Mark, Outcome
from benchmarks.stream import SPAN_MS, START_MS, VERB_SHARES, WINDOW_MS, ActivityStream, partition_of, user_id
from benchmarks.worker import Scrape, quantile
from feedrank import cli
from streams.codec import Decoder
from streams.errors import ExitCode
from streams.policy_file import read_policy
from tests.services import ROOT
from tests.waiting import GUARD_S

SMALL = ActivityStream(4_000, users=300, items=50)

BALLAST_MB = 200


def test_a_higher_value_meets_a_goal_and_gives_a_ratio_above_one() -> None:
    figure = Figure("a", "b", 300.0, "x/s", peer="p", peer_value=100.0, goal=3.0, goal_on="ratio")
    assert figure.ratio == 3.0
    assert figure.met is True


def test_where_lower_is_better_the_ratio_turns_round() -> None:
    figure = Figure("a", "b", 2.0, "s", peer="p", peer_value=6.0, goal=5.0, better="lower")
    assert figure.ratio == 3.0
    assert figure.met is True


def test_a_figure_without_goal_or_peer_is_not_judged() -> None:
    figure = Figure("a", "b", 2.0, "s")
    assert (figure.ratio, figure.met) == (None, None)


def test_the_json_line_has_the_agreed_fields_first() -> None:
    fields = list(Figure("a", "b", 2.0, "s").fields())
    agreed = ["name", "subject", "value", "unit", "peer", "peer_value", "ratio", "goal", "met"]
    assert fields[:9] == agreed


def test_a_script_line_is_completed_and_a_broken_one_is_refused() -> None:
    line = json.dumps({"name": "rank", "subject": "s", "value": 1.5, "unit": "us"})
    assert from_line(line)["met"] is None
    with pytest.raises(ValueError, match="without \\['unit'\\]"):
        from_line('{"name": "rank", "subject": "s", "value": 1.5}')


def test_only_what_is_between_the_markers_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    figure = Figure("ingest", "ours", 251_234.0, "activities/CPU-s", goal=250_000.0, note="exact")
    table.write(page, [figure.fields()], "2 cores")
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| ingest | ours | 251,200 | activities/CPU-s |" in text
    table.write(page, [figure.fields()], "2 cores")
    assert page.read_text() == text


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(ValueError, match=r"put .* back"):
        table.write(page, [], "")
    assert page.read_text() == "nothing"


def test_the_stream_is_the_same_for_a_seed_and_has_its_shape() -> None:
    again = ActivityStream(4_000, users=300, items=50)
    assert SMALL.values("json", 0, 50) == again.values("json", 0, 50)
    columns = SMALL.columns
    assert columns["event_ms"].min() >= START_MS
    assert columns["event_ms"].max() < START_MS + SPAN_MS
    assert abs((columns["verb"] == 0).mean() - VERB_SHARES["impression"]) < 0.05
    counts = np.bincount(columns["user"], minlength=300)
    expected = 4_000 / np.sum(1 / np.arange(1, 301))
    assert abs(counts[0] - expected) < 5 * np.sqrt(expected)


def test_json_and_avro_say_the_same() -> None:
    from io import BytesIO

    from fastavro import schemaless_reader

    from benchmarks.stream import AVRO_HEADER, avro_schema

    for n, (text, body) in enumerate(
        zip(SMALL.values("json", 0, 200), SMALL.values("avro", 0, 200), strict=True)
    ):
        plain = json.loads(text)
        found = schemaless_reader(BytesIO(body.removeprefix(AVRO_HEADER)), avro_schema("activity"), None)
        found["event_time"] = round(found["event_time"].timestamp() * 1_000)
        assert {k: v for k, v in found.items() if v is not None} == plain, n


@pytest.mark.parametrize("kind", ["avro", "json"])
def test_feedrank_refuses_no_value_of_the_stream(kind: Literal["avro", "json"]) -> None:
    decoder = Decoder(kind, read_policy().verbs, SMALL.partitions)
    where = np.flatnonzero(SMALL.partition == 2)
    values = SMALL.values(kind, 0, 4_000)
    keys = [user_id(int(SMALL.columns["user"][n])).encode() for n in where]
    times = SMALL.columns["event_ms"][where]
    taken = [values[n] for n in where]
    columns, dead = decoder.decode("t", 2, range(len(where)), times, keys, taken)
    assert [letter.message for letter in dead] == []
    assert columns.event_ms.tolist() == times.tolist()


def test_values_have_about_190_bytes() -> None:
    sizes = [len(value) for value in SMALL.values("json", 0, 1_000)]
    assert 175 <= np.mean(sizes) <= 205


def test_the_partitioner_is_javas() -> None:
    # From Kafka's own UtilsTest (Java): murmur2 of "21" is -973932308, of "foobar" -790332482.
    assert partition_of(b"21", 1 << 20) == (-973932308 & 0x7FFFFFFF) % (1 << 20)
    assert partition_of(b"foobar", 7) == (-790332482 & 0x7FFFFFFF) % 7


def test_the_first_records_of_each_partition_are_chosen_by_offset() -> None:
    chosen = SMALL.first(100)
    for partition in range(SMALL.partitions):
        where = np.flatnonzero(SMALL.partition == partition)
        assert chosen[where].tolist() == [True] * 100 + [False] * (len(where) - 100)


def dumped(path: Path, cells: tuple[np.ndarray, np.ndarray]) -> Path:
    lines = []
    for code, count in zip(*(part.tolist() for part in cells), strict=True):
        rest, verb = divmod(code, len(VERB_SHARES))
        user, window = divmod(rest, brute.WINDOWS)
        lines.append(f"{user},{START_MS + window * WINDOW_MS},{verb},{count}\n")
    path.write_text("".join(reversed(lines)))
    return path


def test_a_right_dump_has_no_differences_whatever_its_order(tmp_path: Path) -> None:
    right = brute.expected(SMALL)
    assert right[1].sum() == 4_000
    assert brute.differences(right, brute.read_dump(dumped(tmp_path / "d", right))) == 0


@given(st.data())
def test_any_missing_extra_doubled_or_wrong_cell_is_noticed(data: st.DataObject) -> None:
    codes, counts = brute.expected(SMALL)
    at = data.draw(st.integers(0, len(codes) - 1))
    damage = data.draw(st.sampled_from(["miss", "wrong", "double", "move"]))
    if damage == "miss":
        bad = np.delete(codes, at), np.delete(counts, at)
    elif damage == "wrong":
        bad = codes, counts + (np.arange(len(codes)) == at)
    elif damage == "double":
        bad = np.insert(codes, at, codes[at]), np.insert(counts, at, 0)
    else:
        bad = np.where(np.arange(len(codes)) == at, codes.max() + 1, codes), counts
    assert brute.differences((codes, counts), bad) > 0


def test_the_rate_counts_only_after_the_warm_up() -> None:
    outcome = Outcome("x", [Mark(10, 5.0), Mark(100, 6.0), Mark(300, 8.0)])
    assert outcome.per_cpu_second(50) == 100.0
    with pytest.raises(ValueError, match="no steady state"):
        outcome.per_cpu_second(200)


def test_a_process_is_charged_for_its_threads_and_its_printed_marks_are_read(tmp_path: Path) -> None:
    ballast = b"\1" * (BALLAST_MB << 20)  # what we have is not the process's
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint('mark', 7, time.process_time())"
    contender = Contender("burner", [sys.executable, "-c", burn], tmp_path / "log")
    outcome = contender.wait(GUARD_S)
    contender.printed_marks()
    assert outcome.cpu_s >= 0.3
    assert 1 < outcome.peak_mb < BALLAST_MB
    assert len(ballast)
    assert [m.processed for m in outcome.marks] == [7]


def test_a_contender_that_fails_is_reported_with_its_last_words(tmp_path: Path) -> None:
    contender = Contender("loser", [sys.executable, "-c", "raise SystemExit('no disk')"], tmp_path / "log")
    with pytest.raises(BenchmarkFailed, match="no disk"):
        contender.wait(GUARD_S)


def test_quantiles_come_from_what_the_histogram_gained() -> None:
    def scrape(low: int, high: int) -> Scrape:
        lines = [
            "# TYPE feedrank_wait_seconds histogram",
            f'feedrank_wait_seconds_bucket{{le="0.1"}} {low}',
            f'feedrank_wait_seconds_bucket{{le="0.2"}} {high}',
            f'feedrank_wait_seconds_bucket{{le="+Inf"}} {high}',
            f"feedrank_wait_seconds_count {high}",
        ]
        return Scrape("\n".join(lines) + "\n")

    before, after = scrape(1_000, 1_000), scrape(1_050, 1_100)
    assert quantile(before, after, "wait_seconds", 0.5) == pytest.approx(0.1)
    assert quantile(before, after, "wait_seconds", 0.75) == pytest.approx(0.15)
    with pytest.raises(ValueError, match="did not move"):
        quantile(after, after, "wait_seconds", 0.5)


def test_a_package_that_is_missing_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pandas.py").write_text("import of_this_there_is_none.at_all")
    monkeypatch.setattr("benchmarks.catalog.source_path", lambda: {"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    assert cli.run(["bench", "rank"]) == ExitCode.USAGE
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(
        "feedrank: benchmark rank needs of_this_there_is_none, which is not installed; `pip"
    )
