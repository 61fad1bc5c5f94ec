"""Rows of a namespace as they are stored (2, 4): in its changelogs, or on the disk of a replay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

import orjson

from models.fingerprint import fp64
from models.users import USER_ROW
from streams.changelog_rows import ChangelogRows, Told
from streams.concerns import KafkaSettings
from streams.durable import POSITION_KEY
from streams.errors import ExitCode, OperatorError
from streams.store import ShardStore
from topologies.row_format import (
    ITEM_ROWS,
    ITEM_ROWS_READ,
    USER_ROWS,
    check_row_format,
    item_rows_of_today,
)
from topologies.user_rows import SEEN_PAGE, SEEN_PAGES_MAX
from wire.names import Namespace
from wire.partitioner import partition_of

Table = Literal["users", "item-rows"]
TABLES: tuple[Table, ...] = ("users", "item-rows")
FORMATS: Mapping[Table, int] = {"users": USER_ROWS, "item-rows": ITEM_ROWS}
OLDEST_FORMATS: Mapping[Table, int] = {"users": USER_ROWS, "item-rows": ITEM_ROWS_READ}
TAGS: Mapping[Table, tuple[bytes, ...]] = {"users": (b"u", b"s", b"g"), "item-rows": (b"i",)}
FP_BYTES = 8


class StoredRows(Protocol):
    """Rows by tagged key, one partition of a table at a time. `partitions` of both tables."""

    @property
    def partitions(self) -> int: ...
    def newest(
        self, table: Table, partition: int, wanted: Callable[[bytes], bool], told: Told = ...
    ) -> dict[bytes, bytes]:
        """The rows of wanted keys and, under POSITION_KEY, the position record that they belong to.

        Rows of an older format come as today's. Raises OperatorError for rows of a format that is not read.
        """
        ...


class TopicRows:
    """In a namespace's changelogs; a `with` block. See ChangelogRows for errors."""

    def __init__(self, kafka: KafkaSettings, names: Namespace) -> None:
        topics = {"users": names.users_changelog, "item-rows": names.item_rows_changelog}
        with ExitStack() as open_:
            self._changelogs = {
                table: open_.enter_context(ChangelogRows(kafka, topic)) for table, topic in topics.items()
            }
            self._open = open_.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def partitions(self) -> int:
        return self._changelogs["users"].partitions

    def newest(
        self,
        table: Table,
        partition: int,
        wanted: Callable[[bytes], bool],
        told: Told = lambda done, total: None,
    ) -> dict[bytes, bytes]:
        """See StoredRows."""
        return _readable(table, partition, self._changelogs[table].newest(partition, wanted, told))


@dataclass(frozen=True, slots=True)
class DiskRows:
    """In RocksDB directories that nobody has open. Raises OperatorError (data directory)."""

    directory: Path
    partitions: int

    def newest(
        self,
        table: Table,
        partition: int,
        wanted: Callable[[bytes], bool],
        told: Told = lambda done, total: None,
    ) -> dict[bytes, bytes]:
        """See StoredRows."""
        store = ShardStore(self.directory / f"{table}-{partition}")
        try:
            position = store.get(POSITION_KEY)
            found = {} if position is None else {POSITION_KEY: position}
            for tag in TAGS[table]:
                for chunk in store.scan(tag):
                    found |= {key: value for key, value in chunk if wanted(key)}
        finally:
            store.close()
        return _readable(table, partition, found)


@dataclass(frozen=True, slots=True)
class KeyedState:
    """All rows of one user or item, tagged key -> bytes; `position`: the record of its shard."""

    partition: int
    position: Mapping[str, int]
    rows: Mapping[bytes, bytes]


def _readable(table: Table, partition: int, found: dict[bytes, bytes]) -> dict[bytes, bytes]:
    position = found.get(POSITION_KEY)
    if position is not None:
        ours = FORMATS[table]
        record = orjson.loads(position)
        try:
            check_row_format(
                f"{table} {partition}", record.get("row_format", ours), ours, OLDEST_FORMATS[table]
            )
        except ValueError as error:
            raise OperatorError(str(error), ExitCode.BAD_INPUT) from error
    return dict(item_rows_of_today(found)) if table == "item-rows" else found


def user_keys(user: bytes) -> frozenset[bytes]:
    """Every key that rows of a user may have."""
    pages = (b"s" + bytes([page]) + user for page in range(SEEN_PAGES_MAX))
    return frozenset([b"u" + user, b"g" + user, *pages])


def user_of_key(key: bytes) -> bytes:
    """Whose row it is, of a key of the users table."""
    return key[2:] if key[:1] == b"s" else key[1:]


def read_user(stored: StoredRows, user: bytes, told: Told = lambda done, total: None) -> KeyedState:
    """Rows of one user; none where the user never did anything."""
    partition = partition_of(user, stored.partitions)
    rows = stored.newest("users", partition, user_keys(user).__contains__, told)
    return KeyedState(partition, _position(rows), rows)


def read_item(stored: StoredRows, item: str, told: Told = lambda done, total: None) -> KeyedState:
    """The row of one item; none where nothing happened to it."""
    fp = fp64(item.encode())
    partition = fp % stored.partitions
    key = b"i" + fp.to_bytes(FP_BYTES, "big")
    rows = stored.newest("item-rows", partition, key.__eq__, told)
    return KeyedState(partition, _position(rows), rows)


def _position(rows: dict[bytes, bytes]) -> Mapping[str, int]:
    raw = rows.pop(POSITION_KEY, None)
    found: Mapping[str, int] = orjson.loads(raw) if raw else {}
    return found


def page_count(row: bytes) -> int:
    """How many seen pages belong to a user row."""
    at = USER_ROW.fields["seen_count"][1]  # type: ignore[index]
    return min(-(-int.from_bytes(row[at : at + 4], "little") // SEEN_PAGE), SEEN_PAGES_MAX)


def users_in(rows: Mapping[bytes, bytes]) -> Sequence[bytes]:
    """The users of whom rows are there, sorted."""
    return sorted({user_of_key(key) for key in rows if key != POSITION_KEY})
