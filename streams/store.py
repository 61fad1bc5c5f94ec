"""One RocksDB per shard (2, 4): committed rows on local disk, so that a restart replays little.

The changelog is the log, so RocksDB's own write-ahead log is off: after a crash RocksDB stands at an older,
consistent point, and recovery replays from the `changelog_next` that was written last there. Rows are
last-wins, so replaying rows that are already in does no harm.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, takewhile
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson
from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    IngestExternalFileOptions,
    Options,
    Rdict,
    SstFileWriter,
    WriteBatch,
    WriteOptions,
)

from streams.closing import begin_close, free
from streams.disk_advice import disk_advice
from streams.durable import Row
from streams.errors import ExitCode, OperatorError
from streams.log import logger

ROWS_PER_WRITE_MAX = 1_000
AGE_MS_MAX = 12 * 3_600_000
"""An older RocksDB may have missed tombstones that the changelog, which keeps them for a day, has dropped."""
BLOCK_CACHE_BYTES = 64 << 20
WRITE_BUFFER_BYTES = 32 << 20
WRITE_BUFFERS_MAX = 4
BLOOM_BITS_PER_KEY = 10
FILE_BLOCK_BYTES = 16 << 10
"""Of files that are taken over whole: ten user rows. Written 15 % cheaper than blocks of two."""
FORMAT = 1

META_KEY = b"\x00meta"
"""Sorts before every tagged key and no row begins with \\x00."""

_CACHE = Cache(BLOCK_CACHE_BYTES)
"""One for all shards of the process."""

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class StoreMeta:
    """Written after the rows that it speaks of. `changelog_next` -1: nothing was ever flushed.

    `saved_ms` is the wall clock of the writing: a store older than the changelog's tombstones is not trusted.
    """

    changelog_next: int = -1
    saved_ms: int = 0

    def encode(self) -> bytes:
        return orjson.dumps(
            {"format": FORMAT, "changelog_next": self.changelog_next, "saved_ms": self.saved_ms}
        )


class ShardStore:
    """The rows of one shard, by tagged key. Not thread-safe; nothing but one shard may open the directory.

    Raises OperatorError (data directory) whenever the disk or another process stands in the way; a damaged
    database is set aside and an empty one is opened: recovery fills it from the changelog. `broken`: it has
    raised once and is of no more use.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.closed = self.broken = False
        self._write = WriteOptions()
        self._write.disable_wal = True
        self._db = self._open_or_set_aside()
        self.meta = self._read_meta()

    # -- reading -------------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """The row, None where there is none."""
        found: bytes | None = self._do("read", lambda: self._db.get(key))
        return found

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """As `get`, for many keys at once."""
        found: list[bytes | None] = self._do("read", lambda: self._db.get(list(keys))) if keys else []
        return found

    def scan(self, prefix: bytes, rows_max: int = ROWS_PER_WRITE_MAX) -> Iterator[list[tuple[bytes, bytes]]]:
        """Rows whose key begins with `prefix`, in key order, in lists of at most `rows_max`.

        Each list is read when it is asked for: an iterator that outlived `close` would keep the directory
        locked.
        """
        start = prefix
        while part := self._do("read", lambda at=start: list(islice(self._from(at, prefix), rows_max))):
            yield part
            if len(part) < rows_max:
                return
            start = part[-1][0] + b"\0"

    def _from(self, start: bytes, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return takewhile(lambda row: row[0].startswith(prefix), self._db.items(from_key=start))

    # -- writing -------------------------------------------------------------------------------------

    def write(self, rows: Sequence[Row], changelog_next: int | None = None) -> None:
        """Put and delete at most ROWS_PER_WRITE_MAX rows, atomically; RocksDB holds the GIL meanwhile.

        `changelog_next` goes with the last slice of a flush: from there recovery replays.
        """
        if len(rows) > ROWS_PER_WRITE_MAX:
            raise ValueError(f"{len(rows)} rows at once stall the loop; write {ROWS_PER_WRITE_MAX} at most")
        batch = WriteBatch(raw_mode=True)
        for key, value in rows:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        if changelog_next is not None:
            meta = StoreMeta(changelog_next, int(time.time() * 1_000))
            batch.put(META_KEY, meta.encode())
        self._do("write", lambda: self._db.write(batch, self._write))
        if changelog_next is not None:
            self.meta = meta

    def write_whole(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Put any number of rows, all of them or none, whatever dies when: one sorted file that RocksDB takes
        over, for who has no changelog to mend a half-written flush. Of a key given twice the last counts.
        """
        self._do("write", lambda: self._ingest(sorted(rows, key=itemgetter(0))))

    def _ingest(self, rows: list[tuple[bytes, bytes]]) -> None:
        path = str(self.path.with_name(f"{self.path.name}.sst"))
        written, taken, table = Options(raw_mode=True), IngestExternalFileOptions(), BlockBasedOptions()
        table.set_block_size(FILE_BLOCK_BYTES)
        written.set_block_based_table_factory(table)
        written.set_compression_type(DBCompressionType.none())
        taken.set_move_files(True)
        file = SstFileWriter(written)
        file.open(path)
        after = chain((key for key, _ in islice(rows, 1, None)), [None])
        for (key, value), next_key in zip(rows, after, strict=True):
            if key != next_key:
                file[key] = value
        file.finish()
        self._db.ingest_external_file([path], taken)

    def flush(self) -> None:
        """What was written is on the disk, for who has no changelog: `close` fails at that without a word."""
        self._do("write", self._db.flush)

    # -- opening and closing -------------------------------------------------------------------------

    def close(self) -> None:
        """Flush what RocksDB holds in memory and let go of the directory. Closing twice is harmless, and so
        is a disk that does not take it: RocksDB then stands at an older point; recovery replays from there.
        But that takes a second: on the event loop, `let_go` is the way.
        """
        if not self.closed:
            self.closed = True
            self._close()

    def let_go(self) -> None:
        """Of no more use, at once; closed beside the loop. `gone` tells when the directory is free."""
        if not self.closed:
            self.closed = True
            begin_close(self.path, self._close)

    async def gone(self) -> None:
        """Returns when a close that was begun is done."""
        await free(self.path)

    def _close(self) -> None:
        try:
            self._db.close()
        except Exception as error:
            if not self.broken:
                log.warning("RocksDB was not closed well; rows are replayed at start", cause=str(error))

    def wipe(self) -> None:
        """Start anew with an empty database. Raises StoreClosed when it was let go of."""
        self._demand_open()
        self.close()
        shutil.rmtree(self.path, ignore_errors=True)
        self._db = self._open()
        self.closed, self.meta = False, StoreMeta()

    def _open_or_set_aside(self) -> Rdict:
        try:
            return self._open()
        except _Damaged as damaged:
            aside = self.path.with_name(f"{self.path.name}.damaged-{int(time.time())}")
            self.path.rename(aside)
            log.error(
                "RocksDB is damaged and was set aside; the shard is rebuilt from its changelog. Check the "
                "disk, then delete the directory",
                directory=aside,
                cause=str(damaged),
            )
            return self._open()

    def _open(self) -> Rdict:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            return Rdict(str(self.path), _options())
        except Exception as error:
            raise self._explained("open", error) from error

    def _read_meta(self) -> StoreMeta:
        raw = self.get(META_KEY)
        if raw is None:
            return StoreMeta()
        found = orjson.loads(raw)
        if found["format"] != FORMAT:
            log.warning("RocksDB was written by another version; it is rebuilt", directory=self.path)
            self.wipe()
            return StoreMeta()
        return replace(StoreMeta(), changelog_next=found["changelog_next"], saved_ms=found["saved_ms"])

    def _demand_open(self) -> None:
        if self.closed:
            raise StoreClosed(f"{self.path} is closed: the shard was given up")

    def _do(self, what: str, act: Any) -> Any:
        self._demand_open()
        try:
            return act()
        except Exception as error:
            self.broken = True
            explained = self._explained(what, error)
            if isinstance(explained, _Damaged):
                raise OperatorError(
                    f"RocksDB in {self.path} is damaged ({error}); stop the worker, check the disk, delete "
                    "this directory and start again: the shard is rebuilt from its changelog",
                    ExitCode.DATA_DIRECTORY,
                ) from error
            raise explained from error

    def _explained(self, what: str, error: Exception) -> Exception:
        text = str(error)
        lower = text.lower()
        if "corruption" in lower or "checksum mismatch" in lower:
            return _Damaged(text)
        return OperatorError(
            f"cannot {what} RocksDB in {self.path} ({text}); {disk_advice(text)}", ExitCode.DATA_DIRECTORY
        )


async def opened(path: Path) -> ShardStore:
    """The rows of a shard with a changelog; without those that are too old to be mended from it. Waits for a
    store of the same directory that is being closed."""
    await free(path)
    store = ShardStore(path)
    age_ms = int(time.time() * 1_000) - store.meta.saved_ms
    if store.meta.changelog_next >= 0 and age_ms > AGE_MS_MAX:
        log.warning("local rows are too old to be mended; they are rebuilt", directory=path)
        store.wipe()
    return store


class StoreClosed(Exception):  # noqa: N818
    """The shard was closed while something still worked for it; whatever that was is void."""


class _Damaged(Exception):  # noqa: N818
    """RocksDB's files contradict each other."""


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(WRITE_BUFFERS_MAX)
    options.set_keep_log_file_num(2)
    table = BlockBasedOptions()
    table.set_block_cache(_CACHE)
    table.set_bloom_filter(BLOOM_BITS_PER_KEY, False)
    options.set_block_based_table_factory(table)
    return options
