"""RocksDB of one shard: slices with what they contain, and every way in which a disk can stand in the way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streams.errors import ExitCode, OperatorError
from streams.store import ROWS_PER_WRITE_MAX, ShardStore, StoreClosed, StoreMeta


def store_with(path: Path, rows: dict[bytes, bytes], changelog_next: int = 7) -> ShardStore:
    store = ShardStore(path)
    store.write(list(rows.items()), changelog_next)
    return store


def test_rows_and_meta_survive_a_close(tmp_path: Path) -> None:
    store_with(tmp_path / "s", {b"ua": b"1", b"ub": b"2"}, 42).close()
    again = ShardStore(tmp_path / "s")
    assert again.get_many([b"ua", b"ux", b"ub"]) == [b"1", None, b"2"]
    assert again.meta.changelog_next == 42
    again.close()


def test_a_new_store_knows_that_nothing_was_flushed(tmp_path: Path) -> None:
    store = ShardStore(tmp_path / "s")
    assert store.meta == StoreMeta(-1, 0)
    store.close()


def test_none_deletes_a_row(tmp_path: Path) -> None:
    store = store_with(tmp_path / "s", {b"ua": b"1"})
    store.write([(b"ua", None)])
    assert store.get(b"ua") is None
    store.close()


def test_meta_stays_where_a_slice_without_it_is_written(tmp_path: Path) -> None:
    store = store_with(tmp_path / "s", {b"ua": b"1"}, 5)
    store.write([(b"ub", b"2")])
    store.close()
    again = ShardStore(tmp_path / "s")
    assert again.meta.changelog_next == 5
    again.close()


def test_scan_gives_one_table_in_order_and_in_parts(tmp_path: Path) -> None:
    rows = {b"u%03d" % n: b"%d" % n for n in range(25)}
    store = store_with(tmp_path / "s", {**rows, b"g1": b"g", b"v1": b"v"})
    parts = list(store.scan(b"u", rows_max=10))
    assert [len(part) for part in parts] == [10, 10, 5]
    assert dict(row for part in parts for row in part) == rows
    assert list(store.scan(b"x")) == []
    store.close()


def test_a_slice_that_would_hold_the_loop_is_refused(tmp_path: Path) -> None:
    store = ShardStore(tmp_path / "s")
    with pytest.raises(ValueError, match="write 1000 at most"):
        store.write([(b"k%d" % n, b"") for n in range(ROWS_PER_WRITE_MAX + 1)])
    store.close()


def test_another_worker_on_the_same_directory_is_told_what_to_do(tmp_path: Path) -> None:
    store = ShardStore(tmp_path / "s")
    code = f"""
from pathlib import Path
from streams.store import ShardStore
from streams.errors import OperatorError
try:
    ShardStore(Path({str(tmp_path / "s")!r}))
except OperatorError as error:
    print(int(error.exit_code), error.message)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"{int(ExitCode.DATA_DIRECTORY)} ")
    assert "another worker holds it: give each worker a FEEDRANK_DATA_DIR of its own" in said
    store.close()


def test_a_file_in_the_place_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("")
    with pytest.raises(OperatorError, match="a file stands where a directory belongs"):
        ShardStore(tmp_path / "s")


def test_a_damaged_database_is_set_aside_and_begun_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store_with(tmp_path / "s", {b"ua": b"1"}).close()
    for manifest in (tmp_path / "s").glob("MANIFEST*"):
        manifest.write_bytes(b"rubbish" * 30)
    store = ShardStore(tmp_path / "s")
    assert store.meta.changelog_next == -1
    assert store.get(b"ua") is None
    assert [p.name.split("-")[0] for p in tmp_path.iterdir() if p.name != "s"] == ["s.damaged"]
    assert "set aside" in caplog.text
    store.close()


@pytest.mark.parametrize(
    ("cause", "advice"),
    [
        ("IO error: No space left on device: While appending", "the disk is full: free space"),
        ("IO error: Read-only file system", "mount it writable"),
        ("IO error: Permission denied", "correct the owner"),
    ],
)
def test_a_disk_that_fails_says_what_to_do(tmp_path: Path, cause: str, advice: str) -> None:
    store = ShardStore(tmp_path / "s")

    def fail() -> None:
        raise RuntimeError(cause)

    with pytest.raises(OperatorError, match=advice) as caught:
        store._do("write", fail)
    assert caught.value.exit_code is ExitCode.DATA_DIRECTORY
    store.close()


def test_work_for_a_closed_store_is_void_and_closing_twice_is_harmless(tmp_path: Path) -> None:
    store = ShardStore(tmp_path / "s")
    store.close()
    store.close()
    with pytest.raises(StoreClosed):
        store.get(b"ua")


def test_rows_written_by_another_version_are_rebuilt(tmp_path: Path) -> None:
    store = store_with(tmp_path / "s", {b"ua": b"1"})
    store.write([(b"\x00meta", b'{"format": 0, "changelog_next": 1, "saved_ms": 1}')])
    store.close()
    again = ShardStore(tmp_path / "s")
    assert again.meta.changelog_next == -1
    assert again.get(b"ua") is None
    again.close()


def test_a_full_disk_does_not_stand_in_the_way_of_closing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Full:
        def __init__(self, real: object) -> None:
            self.real = real

        def write(self, *_: object) -> None:
            raise OSError("IO error: No space left on device")

        close = write

    store = ShardStore(tmp_path / "shard")
    store._db.close()
    store._db = Full(store._db)  # type: ignore[assignment]
    with pytest.raises(OperatorError, match="the disk is full: free space"):
        store.write([(b"u1", b"x")])
    assert store.broken
    store.close()
    assert store.closed
    assert not caplog.records, "the failed write has said it already"


KILLED = """
import os, sys
from pathlib import Path
from streams.store import ShardStore

store = ShardStore(Path(sys.argv[1]))
for number in range(1, 4):
    rows = [(b"u%05d" % n, b"%d" % number) for n in range(5_000, 0, -1)]
    store.write_whole([*rows, (b"!at", b"%d" % number)])
os.kill(os.getpid(), 9)
"""


def test_what_is_written_whole_is_there_after_a_kill(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "s")], check=False)
    store = ShardStore(tmp_path / "s")
    assert store.get(b"!at") == b"3"
    rows = dict(row for part in store.scan(b"u") for row in part)
    assert rows == {b"u%05d" % n: b"3" for n in range(1, 5_001)}
    store.write_whole([(b"ua", b"old"), (b"ua", b"new")])
    assert store.get(b"ua") == b"new"
    store.close()
