"""Rows computed again: as a replay has them, and in time order as a replay of the corrected log does."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from feedrank import cli
from feedrank.state.reconciling import reconciling
from models.items import ITEM_ROW, derive
from models.user_row import USER_ROW
from streams.settings import Settings
from tests.feedrank.people_file import write_people
from topologies.recompute import ORDERED
from topologies.reconcile import Verdict, reconcile
from topologies.replay.steps import position_of
from topologies.stored_rows import DiskRows, user_of_key
from wire.names import Namespace

PARTITIONS = 2
SUMS = ("m5", "h1", "d1", "long")
BAD_VERB = "teleport"


def messy(
    lines: list[dict[str, Any]], rng: random.Random
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The same activities as they came (late, withdrawn, or as dead letters that are sent again with their
    verb put right), and as they should have."""
    items = [line for line in lines if line["type"] == "item"]
    acts = [line for line in lines if line["type"] == "activity" and line["verb"] != "follow"]
    came, right, requeued = list[dict[str, Any]](), list[dict[str, Any]](), list[dict[str, Any]]()
    for act in acts:
        withdrawn = rng.random() < 0.15
        if not withdrawn:
            right.append(act)
        if not withdrawn and rng.random() < 0.1:
            came.append({**act, "verb": BAD_VERB})
            requeued.append(act)
            continue
        came.append(act)
        if withdrawn:
            undo = {
                "type": "activity", "actor": act["actor"], "verb": "undo", "object": act["object"],
                "event_time": act["event_time"] + 1, "activity_id": f"undo-{act['activity_id']}",
                "undone_verb": act["verb"], "undone_event_time": act["event_time"],
                **{name: act[name] for name in ("position",) if name in act},
            }  # fmt: skip
            came.append(undo)
    order = sorted(range(len(came)), key=lambda at: at + rng.choice((0, 0, 0, 40)))
    return [*items, *(came[at] for at in order), *requeued], [*items, *right]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Shadows `messy` and `right` of the two."""
    directory = tmp_path_factory.mktemp("recompute")
    write_people(directory / "people.jsonl", users=12, acts=1_500)
    lines = [json.loads(line) for line in (directory / "people.jsonl").read_text().splitlines()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEEDRANK_DATA_DIR", str(directory / "data"))
        (directory / "data").mkdir()
        for name, some in zip(("messy", "right"), messy(lines, random.Random(5)), strict=True):
            file = directory / f"{name}.jsonl"
            file.write_text("".join(json.dumps(line) + "\n" for line in some))
            words = ["replay", str(file), "--into", name, "--feeds", "files", "--partitions", str(PARTITIONS)]
            assert cli.run(words) == 0
        return Settings.load()


def rows_of(settings: Settings, name: str, in_time_order: bool) -> dict[bytes, dict[bytes, bytes]]:
    """Recomputed rows of everyone."""

    async def work() -> dict[bytes, dict[bytes, bytes]]:
        found: dict[bytes, dict[bytes, bytes]] = {}
        async with reconciling(settings, Namespace(name), lambda *_: None) as opened:
            for partition in range(PARTITIONS):
                found |= await opened.recomputing.rows(
                    partition, lambda user: True, 0, 1 << 40, in_time_order=in_time_order
                )
        return found

    return asyncio.run(work())


def stored(settings: Settings, name: str) -> dict[bytes, dict[bytes, bytes]]:
    disk, found = DiskRows(settings.worker.data_dir / name, PARTITIONS), dict[bytes, dict[bytes, bytes]]()
    for partition in range(PARTITIONS):
        for key, value in disk.newest("users", partition, lambda key: True).items():
            if key[:1] in b"usg":
                found.setdefault(user_of_key(key), {})[key] = value
    return found


def test_rows_computed_again_are_the_replays(settings: Settings) -> None:
    assert rows_of(settings, "messy", False) == stored(settings, "messy")


def test_in_time_order_they_are_those_of_the_corrected_log(settings: Settings) -> None:
    again, right = rows_of(settings, "messy", True), stored(settings, "right")
    changed = Counter[str]()
    for user, rows in stored(settings, "messy").items():
        mended, clean, before = (
            np.frombuffer(some[b"u" + user], USER_ROW)[0] for some in (again[user], right[user], rows)
        )
        for name in (*ORDERED, *SUMS):
            assert mended[name].tobytes() == clean[name].tobytes(), (user, name)
            changed[name] += before[name].tobytes() != clean[name].tobytes()
        for name in ("records", "ids", "newest_ms"):
            assert mended[name].tobytes() == before[name].tobytes(), "duplicates are told by these"
        pages = {key: value for key, value in again[user].items() if key[:1] == b"s"}
        assert pages == {key: value for key, value in right[user].items() if key[:1] == b"s"}
    assert changed["ring_fp"]
    assert changed["topic_pos"]
    assert not sum(changed[name] for name in SUMS)  # sums needed no mending


def test_statistics_of_items_are_those_of_the_corrected_log(settings: Settings) -> None:
    """Read at one time: a row whose newest activity was withdrawn has only forgotten earlier."""
    messy_, right = (of_items(settings, name) for name in ("messy", "right"))
    end_ms = max(int(row["newest_ms"]) for rows in (messy_, right) for row in rows.values()) + 300_000
    nothing = np.zeros(1, ITEM_ROW)[0]
    for fp in messy_.keys() | right.keys():
        both = np.array([rows.get(fp, nothing) for rows in (messy_, right)], ITEM_ROW)
        for window in ("h1", "h24", "d7", "long"):
            ours, corrected = derive(both, 1, end_ms)[window].tolist()
            assert ours == corrected, window
    assert len(right) > 10
    dead = [
        sum(position_of(settings.worker.data_dir / name / f"users-{p}")["dead"] for p in range(PARTITIONS))
        for name in ("messy", "right")
    ]
    assert dead[0] > 50
    assert not dead[1]


def of_items(settings: Settings, name: str) -> dict[bytes, np.void]:
    disk, found = DiskRows(settings.worker.data_dir / name, PARTITIONS), dict[bytes, np.void]()
    for partition in range(PARTITIONS):
        rows = disk.newest("item-rows", partition, lambda key: True)
        found |= {key: np.frombuffer(row, ITEM_ROW)[0] for key, row in rows.items() if key[:1] == b"i"}
    return found


def test_each_difference_is_named(settings: Settings) -> None:
    rows = rows_of(settings, "messy", False)
    user, held = next((user, held) for user, held in rows.items() if b"s\0" + user in held)
    row = np.frombuffer(bytearray(held[b"u" + user]), USER_ROW)
    row["h1"][0, 3, 1] += 1
    found = reconcile(user, held | {b"u" + user: row.tobytes(), b"s\0" + user: b""}, held, True)
    assert (found.verdict, [one.field for one in found.differences]) == (
        Verdict.DIFFERENT,
        ["user.h1", "seen.0"],
    )
    row = np.frombuffer(bytearray(held[b"u" + user]), USER_ROW)
    row["topic_pos"] += 1
    assert reconcile(user, held | {b"u" + user: row.tobytes()}, held, True).verdict is Verdict.ITEMS
    row["records"] += 1
    assert reconcile(user, held | {b"u" + user: row.tobytes()}, held, False).verdict is Verdict.GONE
    assert reconcile(user, {}, held, True).differences[0].stored == "no row"
