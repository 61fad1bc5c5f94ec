"""`feedrank state` without a broker: what an export must be, and what is refused before anything is made."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from feedrank import cli
from feedrank.state import items
from feedrank.state.export import read_meta, read_table
from feedrank.state.reconciling import Outcome, reconciling
from models.fingerprint import fp64
from models.item_deltas import ItemDeltas, decode
from models.items import ITEM_ROW
from streams.errors import ExitCode, OperatorError
from streams.settings import Settings
from streams.store import ShardStore
from tests.feedrank.people_file import write_people
from topologies.item_sums import add_deltas
from topologies.stored_rows import TABLES, DiskRows
from wire.names import Namespace

PARTITIONS = 2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A shadow `one` of a file, exported into `export`."""
    directory = tmp_path_factory.mktemp("state")
    write_people(directory / "people.jsonl", acts=800)
    (directory / "data").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEEDRANK_DATA_DIR", str(directory / "data"))
        words = ["replay", str(directory / "people.jsonl"), "--into", "one", "--feeds", "files"]
        assert cli.run([*words, "--partitions", str(PARTITIONS)]) == ExitCode.OK
        assert cli.run(["state", "export", str(directory / "export"), "--namespace", "one"]) == ExitCode.OK
        yield directory


def test_an_export_holds_every_row_bit_for_bit_and_columns_that_others_can_read(data: Path) -> None:
    stored = DiskRows(Settings.load().worker.data_dir / "one", PARTITIONS)
    meta = read_meta(data / "export")
    for table in TABLES:
        for partition in range(PARTITIONS):
            rows = stored.newest(table, partition, lambda key: True)
            position = rows.pop(b"!position")
            assert read_table(data / "export", table, partition) == rows
            assert meta["positions"][table][partition] == orjson.loads(position)
    users = pq.read_table(data / "export" / "users-0.parquet", columns=["user", "records", "d1", "follows"])
    assert users.num_rows
    assert all(len(row) == 35 for row in users.column("d1").to_pylist())
    assert sum(users.column("records").to_pylist()) <= 820


def test_users_can_be_verified_on_a_replays_disk(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["state", "verify", "--namespace", "one", "--share", "1", "--json"]
    assert cli.run(words) == ExitCode.OK
    found = orjson.loads(capsys.readouterr().out)
    assert found["verdicts"] == {"same": 40, "different": 0, "items": 0, "gone": 0}
    assert cli.run(["state", "verify", "--namespace", "one", "--share", "0.3", "--json"]) == ExitCode.OK
    assert 2 < orjson.loads(capsys.readouterr().out)["users"] < 25


def test_what_cannot_be_imported_is_one_message_and_leaves_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(change: dict[str, object]) -> Path:
        copy = tmp_path / f"copy-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(data / "export", copy)
        meta = orjson.loads((copy / "meta.json").read_bytes()) | change
        (copy / "meta.json").write_bytes(orjson.dumps(meta))
        return copy

    without = broken({})
    (without / "users-1.parquet").unlink()
    for directory, words in (
        (tmp_path / "nothing", "No such file"),
        (broken({"format": 9}), "format 9"),
        (broken({"whole": False}), "different moments"),
        (without, "users-1.parquet missing"),
        (data / "export", "made of files"),
    ):
        code = cli.run(["state", "import", str(directory), "--into", "two"])
        out, err = capsys.readouterr()
        assert (code, out, err.count("\n")) == (ExitCode.BAD_INPUT, "", 1), err
        assert words in err
    assert not (data / "data" / "two").exists()


def test_a_damaged_file_is_named(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "export", tmp_path / "copy")
    path = tmp_path / "copy" / "item-rows-0.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(OperatorError, match=r"item-rows-0.parquet cannot be read"):
        read_table(tmp_path / "copy", "item-rows", 0)


def test_other_misuse_is_one_message(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, exit_code, told in (
        (["verify", "--namespace", "No!"], ExitCode.USAGE, "--namespace"),
        (["verify", "--namespace", "one", "--user", "nobody"], ExitCode.BAD_INPUT, "no rows of the chosen"),
        (["verify", "--namespace", "one", "--users", str(tmp_path / "no")], ExitCode.USAGE, "user id a line"),
        (["repair", "--namespace", "one"], ExitCode.USAGE, "whose rows?"),
        (["repair", "--namespace", "one", "--user", "u01"], ExitCode.USAGE, "is a replay's"),
        (["export", str(data / "export"), "--namespace", "one"], ExitCode.BAD_INPUT, "not empty"),
    ):
        code = cli.run(["state", *words])
        err = capsys.readouterr().err
        assert (code, err.count("\n")) == (exit_code, 1), err
        assert told in err


def test_items_can_be_verified_and_each_difference_is_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(data / "data", tmp_path / "data")
    monkeypatch.setenv("FEEDRANK_DATA_DIR", str(tmp_path / "data"))
    words = ["state", "verify", "--namespace", "one", "--items", "--share", "1", "--json"]
    assert cli.run(words) == ExitCode.OK
    found = orjson.loads(capsys.readouterr().out)
    assert found["items"] == found["verdicts"]["same"] > 20
    partition = fp64(b"i003") % PARTITIONS
    store = ShardStore(tmp_path / "data" / "one" / f"item-rows-{partition}")
    key = b"i" + fp64(b"i003").to_bytes(8, "big")
    row = np.frombuffer(bytearray(store.get(key) or b""), ITEM_ROW)
    row["last_s"] += 300
    store.write([(key, row.tobytes())])
    store.close()
    assert cli.run(words) == ExitCode.DIFFERENT
    found = orjson.loads(capsys.readouterr().out)
    assert found["verdicts"]["different"] == 1
    assert [(one["item"], one["differences"][0]["field"]) for one in found["findings"]] == [
        ("i003", "item.last_s")
    ]
    assert cli.run(["state", "verify", "--namespace", "one", "--item", "i004"]) == ExitCode.OK
    assert "one: 1 items compared" in capsys.readouterr().out
    assert cli.run(["state", "verify", "--namespace", "one", "--item", "i003"]) == ExitCode.DIFFERENT
    assert cli.run([*words[:4], "--items", "--share", "0.4", "--json"]) in (ExitCode.OK, ExitCode.DIFFERENT)


def test_mending_items_counts_what_is_on_its_way_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a broker: the rows and the position that one transaction would carry."""
    names, outcome, chosen = Namespace("one"), Outcome(), items.ChosenItems.of(["i003"], 0.0, 0)
    partition = fp64(b"i003") % PARTITIONS
    key, other = (b"i" + fp64(name).to_bytes(8, "big") for name in (b"i003", b"new"))

    async def mended() -> tuple[dict[bytes, bytes], dict[bytes, bytes | None], bytes | None]:
        async with reconciling(Settings.load(), names, lambda *_: None) as opened:
            ends = dict.fromkeys(range(PARTITIONS), 1 << 40)
            again = await opened.recomputing.item_rows(opened.starts, ends, chosen.mask)
            damaged = again | {key: bytes(ITEM_ROW.itemsize)}
            rows, position = items._mended(opened, partition, chosen, damaged, outcome)
            return again, dict(rows), position

    sums = ItemDeltas()
    sent = dataclasses.replace(
        decode(sums.drain(1, 0, 0, 0)[0]),
        cell_fp=np.array([fp64(b"new")], np.uint64),
        bucket=np.array([5_000_000], np.int32),
        count=np.array([2], np.int32),
        column=np.array([1], np.int8),
    )
    monkeypatch.setattr(items, "_sent", lambda *_: items.Sent([sent], 77))
    again, rows, position = asyncio.run(mended())
    assert rows.keys() == {key, other}
    assert rows[key] == bytes(ITEM_ROW.itemsize)  # what was recomputed, here made to differ
    assert rows[other] == add_deltas({}, [sent])[other]
    assert orjson.loads(position or b"")["position"] == 77
    assert [one.id for one in outcome.findings] == [b"i003"]
    assert again[key] != rows[key]
