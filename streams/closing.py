"""RocksDBs that are being closed (2, 4), each on a thread of its own.

RocksDB writes what it holds in memory when it is closed. Where the disk does not take it (full, unmounted)
that fails, and RocksDB then keeps the thread that flushes waiting for a second, so that nobody tries again
at once. All databases of a process share that thread. On the event loop this would be a second per shard, in
which nobody is answered: closes run beside the loop, and there are as many threads that flush as closes.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from rocksdict import Env

_under_way: dict[Path, Future[None]] = {}
"""By directory: one for all shards of the process, as RocksDB's locks are."""
_resizing = threading.Lock()


def begin_close(path: Path, close: Callable[[], None]) -> None:
    """Run `close`, which must not raise, beside the loop; `free` waits for it, and so does the process before
    it ends. The interpreter starts no thread while it ends: what is let go only then closes at once."""
    if sys.is_finalizing():
        close()
        return
    done: Future[None] = Future()
    done.set_running_or_notify_cancel()  # who waits may be cancelled, the close may not
    _under_way[path] = done
    _one_flush_each()

    def work() -> None:
        try:
            close()
        finally:
            del _under_way[path]
            _one_flush_each()
            done.set_result(None)

    threading.Thread(target=work, name=f"close {path.name}").start()


def _one_flush_each() -> None:
    """Only while closes run: at work, one flush at a time leaves processors to the loop."""
    with _resizing:
        Env().set_high_priority_background_threads(max(len(_under_way), 1))


async def free(path: Path) -> None:
    """Returns when no store of this process is being closed there any more; at once if none is."""
    while (done := _under_way.get(path)) is not None:
        await asyncio.wrap_future(done)


async def all_free() -> None:
    """The same for all directories."""
    for path in list(_under_way):
        await free(path)
