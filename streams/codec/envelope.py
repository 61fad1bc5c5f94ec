"""Debezium's change envelope in Avro: the row's schema in it, its columns as an item's (flow step 5)."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

Node = Any


def row_schema(writer: Node, reader: Node) -> Node | None:
    """The schema of the row in the envelope `writer`, to compare `reader` with; None: not an envelope.

    A database's columns are often nullable where an item's field is not, and so are its arrays' elements:
    that is let pass here, and a null then found is refused record by record.
    """
    types = {field["name"]: field["type"] for field in writer.get("fields", ())}
    if not {"before", "after", "op"} <= types.keys() or "item_id" in types:
        return None
    row = _record(types["after"]) or _record(types["before"])
    if row is None:
        return None
    wanted = {field["name"]: field["type"] for field in reader["fields"]}
    fields = [
        {"name": field["name"], "type": _loosened(field["type"], wanted.get(field["name"]))}
        for field in row["fields"]
    ]
    return {
        "type": "record",
        "name": reader["name"],
        "namespace": reader.get("namespace", ""),
        "fields": fields,
    }


def _record(node: Node) -> Node | None:
    branches = node if isinstance(node, list) else [node]
    return next((b for b in branches if isinstance(b, dict) and b.get("type") == "record"), None)


def _loosened(node: Node, wanted: Node) -> Node:
    """`node` without the null that `wanted` does not have, in array elements too."""
    if isinstance(node, list) and not isinstance(wanted, list):
        kept = [branch for branch in node if branch != "null"]
        if len(kept) == 1:
            return _loosened(kept[0], wanted)
    if isinstance(node, list):
        inner = [w for w in wanted if w != "null"]
        return [_loosened(branch, inner[0]) if branch != "null" else branch for branch in node]
    if isinstance(node, dict) and node.get("type") == "array" and isinstance(wanted, dict):
        return {"type": "array", "items": _loosened(node["items"], wanted.get("items"))}
    return node


def row_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows after the change; of a deleted one the id it had, with `deleted`."""
    after = _children(batch.column("after"))
    before = _children(batch.column("before"))
    deleted = pc.equal(batch.column("op"), "d").fill_null(False)
    if "item_id" in before:
        after["item_id"] = pc.if_else(deleted, before["item_id"], after["item_id"])
    written = after.get("deleted")
    after["deleted"] = deleted if written is None else pc.or_(deleted, written.fill_null(False))
    return pa.RecordBatch.from_arrays(list(after.values()), names=list(after))


def _children(column: pa.StructArray) -> dict[str, pa.Array]:
    names = [column.type.field(i).name for i in range(column.type.num_fields)]
    return dict(zip(names, column.flatten(), strict=True))
