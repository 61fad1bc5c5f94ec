"""Data directories: RocksDBs, real or modelled, and what a process that dies leaves of them."""

from __future__ import annotations

import bisect
import marshal
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rocksdict import Options, Rdict, WriteBatch

from tests.simulation.loop import PROCESS

PERSISTED = 0.3
"""Of writes: RocksDB happens to bring its memory to disk after them."""
WRITE_BUFFER_BYTES = 4 << 20


def options(**_: Any) -> Options:
    """Small and quick to open; what is in memory goes to disk when the seed says so."""
    made = Options(raw_mode=True)
    made.create_if_missing(True)
    made.set_write_buffer_size(WRITE_BUFFER_BYTES)
    made.set_keep_log_file_num(1)
    made.set_skip_stats_update_on_db_open(True)
    made.set_paranoid_checks(False)
    made.set_max_file_opening_threads(1)
    made.set_stats_dump_period_sec(0)
    return made


class Disk:
    """Directories of all workers under `path`. `batch`: what is written to their databases."""

    def __init__(self, path: Path, seed: random.Random, real: bool) -> None:
        self.path, self.random = path, seed
        self.locked: set[str] = set()
        self.batch: type[Any] = WriteBatch if real else Changes
        self.options = options if real else _no_options
        self._opened: type[_Database] = Database if real else Model
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)

    def open(self, path: str, opened_with: Options) -> _Database:
        """As `rocksdict.Rdict`."""
        return self._opened(self, path, opened_with)

    def lose(self, directory: Path) -> None:
        """Everything of a worker is gone."""
        shutil.rmtree(directory, ignore_errors=True)


def _no_options(**_: Any) -> None: ...


class _Database:
    """What both kinds have in common: the seed says when memory comes to disk, and when the process dies."""

    def __init__(self, disk: Disk, path: str, opened_with: Options) -> None:
        self._disk, self._path = disk, Path(path)
        self._open(opened_with)
        self._is_open = True
        PROCESS.get().at_death.append(self._die)

    def get(self, key: Any) -> Any:
        """The value of a key, or values of a list of keys; None where there is none."""
        raise NotImplementedError

    def items(self, from_key: bytes) -> Iterator[tuple[bytes, bytes]]:
        """In order of keys."""
        raise NotImplementedError

    def write(self, batch: Any, how: Any) -> None:
        """All of a batch, in memory; maybe memory comes to disk."""
        self._take(batch, how)
        if self._disk.random.random() < PERSISTED:
            self._flush()

    def close(self) -> None:
        """What is in memory comes to disk."""
        if self._is_open:
            self._is_open = False
            self._close()

    def _die(self) -> None:
        """What is on disk stays."""
        if self._is_open:
            self._lost()

    def _open(self, opened_with: Options) -> None:
        raise NotImplementedError

    def _take(self, batch: Any, how: Any) -> None:
        raise NotImplementedError

    def _flush(self) -> None:
        raise NotImplementedError

    def _close(self) -> None:
        raise NotImplementedError

    def _lost(self) -> None:
        raise NotImplementedError


class Database(_Database):
    """A RocksDB that forgets what it held in memory when its process dies."""

    def _open(self, opened_with: Options) -> None:
        self._db = Rdict(str(self._path), opened_with)

    def get(self, key: Any) -> Any:
        return self._db.get(key)

    def items(self, from_key: bytes) -> Any:
        return self._db.items(from_key=from_key)

    def _take(self, batch: Any, how: Any) -> None:
        self._db.write(batch, how)

    def _flush(self) -> None:
        self._db.flush()

    def _close(self) -> None:
        self._db.close()

    def _lost(self) -> None:
        """RocksDB writes its memory while closing: a copy takes its place."""
        left = self._path.with_name(f"{self._path.name}.left")
        left.mkdir()
        for file in self._path.iterdir():
            if file.name != "LOCK":
                shutil.copyfile(file, left / file.name)
        self.close()
        shutil.rmtree(self._path)
        left.rename(self._path)


class Changes:
    """What stands in for `rocksdict.WriteBatch`."""

    def __init__(self, raw_mode: bool) -> None:
        assert raw_mode, "keys and values are bytes"
        self.made: list[tuple[bytes, bytes | None]] = []

    def put(self, key: bytes, value: bytes) -> None:
        self.made.append((key, value))

    def delete(self, key: bytes) -> None:
        self.made.append((key, None))


class Model(_Database):
    """What of a RocksDB matters here, in memory: rows, those that are on disk, and the lock on its directory.

    A test plays seeds with this and with the real one, and compares.
    """

    def _open(self, opened_with: Options) -> None:
        if str(self._path) in self._disk.locked:
            raise OSError(f"IO error: lock hold by current process: {self._path}/LOCK")
        self._disk.locked.add(str(self._path))
        self._file = self._path / "rows"
        self._rows: dict[bytes, bytes] = marshal.loads(self._file.read_bytes()) if self._file.exists() else {}
        self._keys = sorted(self._rows)

    def get(self, key: bytes | Sequence[bytes]) -> Any:
        self._usable()
        if isinstance(key, bytes):
            return self._rows.get(key)
        return [self._rows.get(one) for one in key]

    def items(self, from_key: bytes) -> Iterator[tuple[bytes, bytes]]:
        self._usable()
        keys = self._keys[bisect.bisect_left(self._keys, from_key) :]
        return ((key, self._rows[key]) for key in keys)

    def _usable(self) -> None:
        if not self._is_open:
            raise OSError("DB is closed")

    def _take(self, batch: Changes, how: Any) -> None:
        self._usable()
        for key, value in batch.made:
            if value is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = value
        self._keys = sorted(self._rows)

    def _flush(self) -> None:
        self._file.write_bytes(marshal.dumps(self._rows))

    def _close(self) -> None:
        if self._path.is_dir():  # RocksDB writes to files that were deleted
            self._flush()
        self._disk.locked.discard(str(self._path))

    def _lost(self) -> None:
        self._is_open = False
        self._disk.locked.discard(str(self._path))
