"""A folder that is written whole or not at all, in the place of an older one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streams.errors import OperatorError


@contextmanager
def written_whole(folder: Path, marker: str, what: str) -> Iterator[Path]:
    """Where to write; at the end of the block it becomes `folder`. A folder that is there must be one of
    ours: it holds the file `marker`, or it "holds no {what}".

    Raises OperatorError where the place holds something else, or cannot be written.
    """
    refuse_other(folder, marker, what)
    part, old = folder.with_name(f".{folder.name}.part"), folder.with_name(f".{folder.name}.old")
    try:
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        if folder.exists():
            os.replace(folder, old)
        os.replace(part, folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OperatorError(f"{folder} cannot be written: {error}; choose another place") from error


def refuse_other(folder: Path, marker: str, what: str) -> None:
    """Raises OperatorError where `folder` is there and holds something else; ask before long work."""
    if folder.exists() and not (folder / marker).is_file():
        raise OperatorError(f"{folder} is there and holds no {what}; name another folder")
