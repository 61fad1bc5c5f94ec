"""Rows of another version are refused, and the message says which way out there is."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from streams.durable import POSITION_KEY
from streams.errors import OperatorError
from streams.store import ShardStore
from tests.topologies.test_item_shard import shard as item_shard
from tests.topologies.test_user_shard import INDEX
from tests.topologies.test_user_shard import shard as user_shard
from topologies.row_format import ITEM_ROWS, ITEM_ROWS_READ, check_row_format
from topologies.stored_rows import TABLES, DiskRows, Table
from topologies.user_shard import ROW_FORMAT as USER_FORMAT


@pytest.mark.parametrize("kind", ["users", "items"])
@pytest.mark.parametrize(
    ("step", "way_out"), [(1, "Start that version again"), (-1, "replay into a new namespace")]
)
def test_rows_of_a_newer_and_of_an_older_version(kind: str, step: int, way_out: str) -> None:
    ours = USER_FORMAT if kind == "users" else ITEM_ROWS
    oldest = USER_FORMAT if kind == "users" else ITEM_ROWS_READ
    record = orjson.dumps({"row_format": (ours if step > 0 else oldest) + step})
    state = user_shard(INDEX, resident=False) if kind == "users" else item_shard(resident=False)
    before = state.position
    with pytest.raises(ValueError, match=way_out):
        state.restore([(POSITION_KEY, record)])
    assert state.position == before


def test_rows_of_this_version() -> None:
    check_row_format("here", 3, 3)


@pytest.mark.parametrize("table", TABLES)
def test_stored_rows_of_an_older_version_are_not_shown(table: Table, tmp_path: Path) -> None:
    """Commands that look into rows say so too, instead of reading bytes as what they are not."""
    store = ShardStore(tmp_path / f"{table}-0")
    store.write_whole([(POSITION_KEY, orjson.dumps({"position": 1, "epoch": 1, "row_format": 0}))])
    store.close()
    with pytest.raises(OperatorError, match="replay into a new namespace"):
        DiskRows(tmp_path, 1).newest(table, 0, lambda key: True)
