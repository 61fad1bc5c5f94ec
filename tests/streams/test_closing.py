"""RocksDBs are closed beside the loop: all at once, void from the first moment, free when they are done."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from streams.closing import all_free, free
from streams.store import ShardStore, StoreClosed, opened
from tests.waiting import GUARD_S, slowness

STORES = 8
TOGETHER_S_MAX = 3.0
"""One after the other they take a second each."""


class Held(ShardStore):
    """Its close waits for the test."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.go_on = threading.Event()

    def _close(self) -> None:
        self.go_on.wait()
        super()._close()


def test_the_loop_goes_on_while_stores_close_on_a_disk_that_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stores = [ShardStore(tmp_path / f"s{n}") for n in range(STORES)]
    for store in stores:
        store.write([(b"ua", b"1")], 7)
        shutil.rmtree(store.path)

    async def close_all() -> float:
        for store in stores:
            store.let_go()
        began = time.monotonic()
        await all_free()
        return time.monotonic() - began

    assert asyncio.run(close_all()) < TOGETHER_S_MAX * slowness()
    assert [record.getMessage() for record in caplog.records] == [
        "RocksDB was not closed well; rows are replayed at start"
    ] * STORES


def test_a_store_that_is_being_closed_is_void_and_who_opens_its_directory_waits(tmp_path: Path) -> None:
    async def story() -> None:
        store = Held(tmp_path / "s")
        store.write([(b"ua", b"1")], 7)
        store.let_go()
        store.let_go()  # once is enough
        with pytest.raises(StoreClosed):
            store.get(b"ua")
        with pytest.raises(StoreClosed):
            store.wipe()
        again = asyncio.ensure_future(opened(tmp_path / "s"))
        impatient = asyncio.ensure_future(store.gone())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not again.done()
        impatient.cancel()  # who waits may be cut short, the close may not
        await asyncio.wait([impatient])
        store.go_on.set()
        heir = await again
        assert heir.get(b"ua") == b"1"
        heir.close()
        await free(tmp_path / "s")

    asyncio.run(story())


LET_GO_LAST = """
import pathlib
from streams.closing import begin_close

class Last:
    def __del__(self, begin_close=begin_close, path=pathlib.Path("x")):
        begin_close(path, lambda: print("closed"))

last = Last()
"""


def test_a_store_that_is_let_go_as_the_process_ends_does_not_hold_it_up() -> None:
    """Python 3.11 would wait for ever for a thread that is started then, and later ones refuse to."""
    command = [sys.executable, "-c", LET_GO_LAST]
    done = subprocess.run(command, capture_output=True, text=True, timeout=GUARD_S, check=True)
    assert (done.stdout, done.stderr) == ("closed\n", "")
