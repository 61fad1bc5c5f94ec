"""A data directory that cannot be signed is the operator's to mend, not a defect."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from streams.data_dir import claimed
from streams.errors import ExitCode, OperatorError


def test_a_disk_without_room_for_a_process_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with (
            pytest.raises(OperatorError, match=r"No space left on device.*free space") as refused,
            claimed(tmp_path),
        ):
            pass
    assert refused.value.exit_code == ExitCode.DATA_DIRECTORY
    with claimed(tmp_path):  # and the lock was let go of
        assert (tmp_path / "worker.lock").read_text() == str(os.getpid())
