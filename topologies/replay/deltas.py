"""Item deltas on their way from user shards to item shards (3, 4): a file per sender instead of a topic.

A frame is the target partition and the length (two uint32, little endian), then the message. What is appended
counts once its sender's checkpoint holds the file's length; the rest is cut off when the sender goes on.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streams.dead_letters import reason_of
from streams.durable import Message
from streams.errors import ExitCode, OperatorError
from topologies.replay.ledger import DELTAS, dead_of, mark_of
from topologies.replay.shadow import disk_error
from topologies.replay.shard import Mark
from wire.names import DEAD_LETTERS

_FRAME = struct.Struct("<II")


class DeltaLog:
    """The messages of one sender, for appending. Raises OperatorError when the disk does not take them."""

    def __init__(self, path: Path, length: int) -> None:
        """Open and cut off what is behind `length`, the length at the sender's last checkpoint."""
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            there = os.fstat(self._file).st_size
            if there < length:
                raise OperatorError(
                    f"{path} has {there} bytes, its sender's checkpoint says {length}: the file was cut; "
                    "cancel the job and replay again",
                    ExitCode.DATA_DIRECTORY,
                )
            os.ftruncate(self._file, length)
            os.lseek(self._file, length, os.SEEK_SET)
        except OSError as error:
            raise disk_error(path, error) from error
        self.length = length

    def append(self, messages: Iterable[tuple[int, bytes]]) -> None:
        """Add messages (target partition, value)."""
        block = b"".join(_FRAME.pack(target, len(value)) + value for target, value in messages)
        self.length += len(block)
        try:
            while block:
                block = block[os.write(self._file, block) :]
        except OSError as error:
            raise disk_error(self._path, error) from error

    def sync(self) -> None:
        """All that was appended is on the disk, before a checkpoint says so."""
        try:
            os.fsync(self._file)
        except OSError as error:
            raise disk_error(self._path, error) from error

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


@dataclass(slots=True)
class Outbox:
    """What a user shard sends: item deltas to its log, dead letters counted by reason (the live job set them
    aside). `dead_items`: by reason, what the items were."""

    path: Path
    dead_items: Mapping[str, int] = field(default_factory=dict)
    dead: Counter[str] = field(default_factory=Counter)
    _log: DeltaLog | None = None

    def open(self, mark: Mark | None) -> None:
        """Go on from a checkpoint's mark; None: from the beginning."""
        found = mark or mark_of(0, {}, {})
        self.dead, self._log = dead_of(found), DeltaLog(self.path, found[DELTAS])

    def append(self, drained: dict[int, bytes]) -> None:
        """Item deltas (target partition -> message) that count with the next checkpoint."""
        assert self._log is not None
        self._log.append(drained.items())

    def take(self, messages: Sequence[Message]) -> Mark:
        """What a cut sends; returns the mark of its checkpoint."""
        assert self._log is not None
        self.dead.update(reason_of(one) for one in messages if one.topic == DEAD_LETTERS)
        self._log.append(
            (one.partition, one.value)
            for one in messages
            if one.topic != DEAD_LETTERS and one.partition is not None and one.value is not None
        )
        self._log.sync()
        return mark_of(self._log.length, self.dead, self.dead_items)

    def close(self) -> None:
        """Let go of the file."""
        if self._log is not None:
            self._log.close()


def frame_bytes(value: bytes) -> int:
    """What a message takes in a delta log."""
    return _FRAME.size + len(value)


def messages_for(path: Path, target: int, start: int) -> Iterator[tuple[int, bytes]]:
    """Messages to `target` from byte `start` on, each with where the next frame begins; their sender is done.

    Raises OperatorError when the file ends within a frame.
    """
    with path.open("rb") as file:
        at, end = start, os.fstat(file.fileno()).st_size
        file.seek(start)
        while at < end:
            head = file.read(_FRAME.size)
            if len(head) == _FRAME.size:
                to, size = _FRAME.unpack(head)
                at += _FRAME.size + size
                if to != target:
                    file.seek(size, os.SEEK_CUR)
                    continue
                value = file.read(size)
                if len(value) == size:
                    yield at, value
                    continue
            raise OperatorError(
                f"{path} ends in the middle; cancel the job and replay again", ExitCode.DATA_DIRECTORY
            )
