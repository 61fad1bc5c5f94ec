"""A row as plain data, for JSON and for text: every field of docs/state.md, with names instead of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from feedrank.inspecting.names import Names
from models import items, user_row
from models.examination import UNIT
from models.fingerprint import fp64
from models.graph import GraphRow
from models.merge import UNDO_BIT
from models.rings import Ring
from models.user_row import DAY_MS
from models.verbs import VerbTable
from models.windows import bars, long_counts, window
from topologies.stored_rows import FP_BYTES, KeyedState, page_count

ROLES = ("exposure", "weak", "strong", "negative", "dwell_s")
KINDS = ("author", "topic", "keyword")
AFFINITY_UNIT = 256
"""A stored weight of 256 is one of the policy's affinity, just now."""
SEEN_MOST = 20
EDGES_MOST = 20


def of_user(user: str, state: KeyedState, as_of_ms: int, names: Names, verbs: VerbTable) -> dict[str, Any]:
    """One user's rows; `windows` and `long` as of a time, all else as stored."""
    key = user.encode()
    row = np.frombuffer(state.rows[b"u" + key], user_row.USER_ROW)
    one = row[0]
    return {
        "user": user,
        "fp64": f"{fp64(key):016x}",
        "partition": state.partition,
        "position": state.position.get("position"),
        "as_of_ms": as_of_ms,
        "newest_ms": int(one["newest_ms"]),
        "records": int(one["records"]),
        "last_signal_ms": int(one["signal_ms"]),
        "session": {"began_ms": int(one["session_start_ms"]), "depth": int(one["session_depth"])},
        "windows": _windows(row, (user_row.M5, user_row.H1, user_row.D1), as_of_ms),
        "long": _by_role(long_counts(row, as_of_ms)),
        "engaged": int(one["engaged"]),
        "engagements": _engagements(one, names, verbs),
        "merged_s": int(one["merged_s"]),
        "authors": _interests(one, "author", names),
        "topics": _interests(one, "topic", names),
        "embedding_norm": round(float(np.linalg.norm(one["embedding"].astype(np.float64))), 1),
        "seen": _seen(key, state, int(one["seen_count"]), names),
        "graph": _graph(state.rows.get(b"g" + key), names),
    }


def of_item(item: str, state: KeyedState, as_of_ms: int, names: Names) -> dict[str, Any]:
    """One item's row, and what the item says of itself where it is known."""
    fp = fp64(item.encode())
    row = np.frombuffer(state.rows[b"i" + fp.to_bytes(FP_BYTES, "big")], items.ITEM_ROW)
    one, record = row[0], names.items.get(fp)
    return {
        "item": item,
        "fp64": f"{fp:016x}",
        "author": record.author if record else None,
        "topics": list(record.topics) if record else None,
        "title": record.title if record else None,
        "created_ms": record.created_ms if record else None,
        "partition": state.partition,
        "position": state.position.get("position"),
        "as_of_ms": as_of_ms,
        "newest_ms": int(one["newest_ms"]),
        "first_engaged_ms": int(one["first_s"]) * 1_000,
        "last_engaged_ms": int(one["last_s"]) * 1_000,
        "windows": _windows(row, (items.M5, items.H1, items.D1), as_of_ms),
        "long": _by_role(long_counts(row, as_of_ms)),
        "examined_7d": window(items.EXAMINED, row, as_of_ms).sums[0] / UNIT,
        "engagers": [
            {"user_fp48": f"{who >> 1:012x}", "at_ms": at * 1_000, "withdrawn": bool(who & 1)}
            for who, at in zip(one["engager"].tolist(), one["engager_s"].tolist(), strict=True)
            if who or at
        ],
    }


def _windows(row: Any, rings: tuple[Ring, ...], as_of_ms: int) -> dict[str, Any]:
    found = {}
    for ring in rings:
        read = window(ring, row, as_of_ms)
        found[ring.name] = {
            "bucket_ms": read.length_ms,
            "begins_ms": read.begins_ms,
            "whole": read.whole,
            "sums": dict(zip(ROLES, read.sums, strict=False)),
            "counts": {role: column.tolist() for role, column in zip(ROLES, read.counts.T, strict=False)},
            "bars": {role: bars(column) for role, column in zip(ROLES, read.counts.T, strict=False)},
        }
    return found


def _by_role(values: list[float]) -> dict[str, float]:
    return {role: round(value, 3) for role, value in zip(ROLES, values, strict=False)}


def _engagements(one: Any, names: Names, verbs: VerbTable) -> list[dict[str, Any]]:
    """The last 16, newest first."""
    count = int(one["engaged"])
    places = [number % user_row.RING for number in range(max(count - user_row.RING, 0), count)]
    return [
        {
            "item": names.item(int(one["ring_fp"][place])),
            "verb": _verb(int(one["ring_act"][place]), verbs),
            "at_ms": int(one["ring_s"][place]) * 1_000,
            "merged": number < count - count % user_row.RING,
        }
        for number, place in reversed(
            list(zip(range(max(count - user_row.RING, 0), count), places, strict=True))
        )
    ]


def _verb(act: int, verbs: VerbTable) -> str:
    code = act & ~UNDO_BIT
    name = verbs.verbs[code].name if code < len(verbs) else f"verb {code} (not in this policy)"
    return f"undo {name}" if act & UNDO_BIT else name


def _interests(one: Any, kind: str, names: Names) -> list[dict[str, Any]]:
    columns = (one[f"{kind}_{part}"].tolist() for part in ("fp", "pos", "neg"))
    return [
        {
            kind: names.short(fp),
            "liked": round(pos / AFFINITY_UNIT, 2),
            "disliked": round(neg / AFFINITY_UNIT, 2),
        }
        for fp, pos, neg in zip(*columns, strict=True)
        if pos or neg
    ]


def _seen(key: bytes, state: KeyedState, count: int, names: Names) -> dict[str, Any]:
    """Items of the last 512 exposures, shown most often first."""
    pages = page_count(state.rows[b"u" + key])
    raw = b"".join(state.rows.get(b"s" + bytes([page]) + key, b"") for page in range(pages))
    times: dict[int, int] = {}
    days: dict[int, int] = {}
    for entry in np.frombuffer(raw, "<u8").tolist():
        if entry:
            fp32, shown = entry >> 32, -1 if entry & 0xFFFF == 0xFFFF else 1
            times[fp32] = times.get(fp32, 0) + shown
            days[fp32] = max(days.get(fp32, 0), entry >> 16 & 0xFFFF)
    low = names.low_halves()
    most = sorted(((n, fp32) for fp32, n in times.items() if n > 0), key=lambda one: (-one[0], one[1]))
    return {
        "exposures": count,
        "items": len(most),
        "most": [
            {"item": names.item_of32(fp32, low), "times": n, "last_day_ms": days[fp32] * DAY_MS}
            for n, fp32 in most[:SEEN_MOST]
        ],
    }


def _graph(raw: bytes | None, names: Names) -> dict[str, Any]:
    """Newest edges first."""
    graph = GraphRow() if raw is None else GraphRow.decode(raw)
    found: dict[str, Any] = {}
    for name, (edges, kinds) in zip(("follows", "mutes", "blocks"), graph.lists(), strict=True):
        newest: list[Mapping[str, Any]] = [
            {
                "name": names.edge(edge >> 16),
                "kind": KINDS[kind] if kind < len(KINDS) else str(kind),
                "day_ms": (edge & 0xFFFF) * DAY_MS,
            }
            for edge, kind in zip(edges.tolist()[::-1], kinds.tolist()[::-1], strict=True)
        ]
        found[name] = {"count": len(newest), "newest": newest[:EDGES_MOST]}
    return found
