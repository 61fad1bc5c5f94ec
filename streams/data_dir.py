"""One worker per data directory (before 2 and 4): a lock that the kernel lets go of when the worker dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streams.errors import ExitCode, OperatorError

LOCK_FILE = "worker.lock"


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Hold the directory. Raises OperatorError (data directory) when another worker has it or it is not
    writable."""
    try:
        handle = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OperatorError(
            f"cannot write to {directory} ({error.strerror}); correct FEEDRANK_DATA_DIR or its owner",
            ExitCode.DATA_DIRECTORY,
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(handle, 20, 0).decode(errors="replace").strip() or "unknown"
            raise OperatorError(
                f"{directory} is held by another worker (process {holder}); give each worker a "
                "FEEDRANK_DATA_DIR of its own",
                ExitCode.DATA_DIRECTORY,
            ) from error
        _sign(handle, directory)
        yield
    finally:
        os.close(handle)


def _sign(handle: int, directory: Path) -> None:
    """Write our process id into the lock. Raises OperatorError where the disk has no room even for that."""
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
    except OSError as error:
        raise OperatorError(
            f"cannot write to {directory} ({error.strerror}); free space or move FEEDRANK_DATA_DIR",
            ExitCode.DATA_DIRECTORY,
        ) from error
