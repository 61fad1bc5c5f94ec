"""Data directories: real RocksDBs, and what a process that dies leaves of them."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

from rocksdict import Options, Rdict

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
    """Directories of all workers under `path`."""

    def __init__(self, path: Path, seed: random.Random) -> None:
        self.path, self.random = path, seed
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)

    def open(self, path: str, opened_with: Options) -> Database:
        return Database(self, path, opened_with)

    def lose(self, directory: Path) -> None:
        """Everything of a worker is gone."""
        shutil.rmtree(directory, ignore_errors=True)


class Database:
    """A RocksDB that forgets what it held in memory when its process dies."""

    def __init__(self, disk: Disk, path: str, opened_with: Options) -> None:
        self._disk, self._path = disk, Path(path)
        self._db = Rdict(path, opened_with)
        self._open = True
        PROCESS.get().at_death.append(self._die)

    def get(self, key: Any) -> Any:
        return self._db.get(key)

    def items(self, from_key: bytes) -> Any:
        return self._db.items(from_key=from_key)

    def write(self, batch: Any, how: Any) -> None:
        self._db.write(batch, how)
        if self._disk.random.random() < PERSISTED:
            self._db.flush()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._db.close()

    def _die(self) -> None:
        """What is on disk stays; RocksDB writes its memory while closing: a copy takes its place."""
        if not self._open:
            return
        left = self._path.with_name(f"{self._path.name}.left")
        left.mkdir()
        for file in self._path.iterdir():
            if file.name != "LOCK":
                shutil.copyfile(file, left / file.name)
        self.close()
        shutil.rmtree(self._path)
        left.rename(self._path)
