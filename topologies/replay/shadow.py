"""The shadow (all steps): what a replay is to do, written down once, and where it keeps what it makes."""

from __future__ import annotations

import dataclasses
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson

from streams.errors import ExitCode, OperatorError
from wire.names import Namespace

Source = Literal["kafka", "files"]
Sink = Literal["redis", "files", "none"]

DEFINITION_FILE = "replay.json"
FORMAT = 4
END_OF_DATA = -1


@dataclass(frozen=True, slots=True)
class Definition:
    """All that decides the bytes that a replay makes, and where they go.

    `starts`, `ends`: first offset and the one after the last, by partition of activities; `items_ends`: of
    items, read from the beginning. `as_of_ms`: when feeds are settled, a multiple of the tick; END_OF_DATA:
    the tick after the newest event. `policy`: the text of the policy file. `users`: whose feeds are made.

    `read_starts`, `read_ends`: of a topic that has another number of partitions: its records are spooled by
    key first; `starts` and `ends` are then places in the spool. Else empty. `lines`: of files, about how many
    records they have, for whoever waits; decides nothing.
    """

    job: str
    namespace: str
    source: Source
    partitions: int
    starts: dict[int, int]
    ends: dict[int, int]
    policy: str
    tick_ms: int
    as_of_ms: int = END_OF_DATA
    to_ms: int | None = None
    items_ends: dict[int, int] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    value_format: Literal["avro", "json"] = "avro"
    sink: Sink = "redis"
    users: str = ""
    generation: int = 1
    read_starts: dict[int, int] = field(default_factory=dict)
    read_ends: dict[int, int] = field(default_factory=dict)
    lines: int = 0

    def encode(self) -> bytes:
        """JSON text."""
        return orjson.dumps(
            {"format": FORMAT, **dataclasses.asdict(self)},
            option=orjson.OPT_NON_STR_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
        )

    @classmethod
    def decode(cls, text: bytes) -> Definition:
        """Raises ValueError for the definition of another version."""
        fields: dict[str, Any] = orjson.loads(text)
        if fields.pop("format", None) != FORMAT:
            raise ValueError("another version of feedrank wrote it")
        for name in ("starts", "ends", "items_ends", "read_starts", "read_ends"):
            fields[name] = {int(partition): offset for partition, offset in fields[name].items()}
        return cls(**fields | {"files": tuple(fields["files"])})

    @property
    def names(self) -> Namespace:
        return Namespace(self.namespace)

    @property
    def spooled(self) -> bool:
        """Whether activities are read from a spool, not from their topic."""
        return self.source == "files" or bool(self.read_ends)

    def resume(self, partition: int) -> int:
        """The offset of the activities topic where a worker of this namespace goes on. Partitions that the
        topic is given for it begin at 0."""
        return self.read_ends.get(partition, 0) if self.read_ends else self.ends[partition]

    @property
    def records(self) -> int:
        """Offsets of activities in the range."""
        return sum(end - self.starts[partition] for partition, end in self.ends.items())


@dataclass(frozen=True, slots=True)
class Shadow:
    """The directory of one shadow namespace."""

    directory: Path

    @classmethod
    def of(cls, data_dir: Path, names: Namespace) -> Shadow:
        """Where the worker of that namespace would look."""
        return cls(data_dir / names.name)

    @property
    def exists(self) -> bool:
        """Whether a replay was ever defined here."""
        return (self.directory / DEFINITION_FILE).exists()

    def demand_empty(self) -> None:
        """Raises OperatorError when something is there already."""
        if self.directory.exists() and any(self.directory.iterdir()):
            raise OperatorError(
                f"{self.directory} is not empty: namespace {self.directory.name} has state here; choose "
                "another --into, resume its job (`feedrank jobs list`), or delete the directory",
                ExitCode.DATA_DIRECTORY,
            )

    def define(self, definition: Definition) -> None:
        """Make the directory and write the definition.

        Raises OperatorError when something is there already or the disk does not take it.
        """
        self.demand_empty()
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            (self.directory / DEFINITION_FILE).touch(exist_ok=False)  # of two at once, one
            write_atomically(self.directory / DEFINITION_FILE, definition.encode())
        except FileExistsError:
            self.demand_empty()
        except OSError as error:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise disk_error(self.directory, error) from error

    def amend(self, definition: Definition) -> None:
        """Write what became known since. Raises OperatorError when the disk does not take it."""
        try:
            write_atomically(self.directory / DEFINITION_FILE, definition.encode())
        except OSError as error:
            raise disk_error(self.directory, error) from error

    def definition(self) -> Definition:
        """Raises OperatorError when there is none, or it cannot be read."""
        path = self.directory / DEFINITION_FILE
        try:
            return Definition.decode(path.read_bytes())
        except FileNotFoundError as error:
            raise OperatorError(
                f"there is no replay in {self.directory}; `feedrank jobs list` shows which there are, and "
                "FEEDRANK_DATA_DIR says where they are looked for"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise OperatorError(
                f"{path} is damaged ({error}); delete {self.directory} and replay again",
                ExitCode.DATA_DIRECTORY,
            ) from error

    # -- what a replay makes ---------------------------------------------------------------------------

    @property
    def spool(self) -> Path:
        """Records of files, and the items of any source, as they were when the replay began."""
        return self.directory / "spool"

    def users(self, partition: int) -> Path:
        """RocksDB of user rows; the name is the live worker's."""
        return self.directory / f"users-{partition}"

    def item_rows(self, partition: int) -> Path:
        """RocksDB of item rows; the name is the live worker's."""
        return self.directory / f"item-rows-{partition}"

    def deltas(self, partition: int) -> Path:
        """Item deltas that this partition of activities sent."""
        return self.directory / "deltas" / f"{partition}"

    def features(self, partition: int) -> Path:
        """Derived records of this partition's items at the settled tick."""
        return self.directory / "features" / f"{partition}"

    def model(self, role: str) -> Path:
        """The copy of the model that scores all candidates (`light`) or orders the best (`heavy`)."""
        return self.directory / "models" / role

    def feeds(self, partition: int) -> Path:
        """RocksDB of settled feeds, where they do not go to Redis."""
        return self.directory / f"feeds-{partition}"


def write_atomically(path: Path, content: bytes) -> None:
    """Whoever reads `path` finds the old content or the new, whatever dies when. Raises OSError."""
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def disk_error(where: Path, error: OSError) -> OperatorError:
    """What an operator hears of a disk that does not take a replay."""
    return OperatorError(
        f"cannot write to {where} ({error.strerror or error}); free space, correct the owner, or move "
        "FEEDRANK_DATA_DIR, then resume the job: nothing is lost",
        ExitCode.DATA_DIRECTORY,
    )
