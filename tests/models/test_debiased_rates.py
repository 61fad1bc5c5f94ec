"""Rates by place: what an item earns at a place says little until the place is taken out of it."""

from __future__ import annotations

import numpy as np
import pytest

from models.examination import EXAMINATION, UNIT
from models.features import FEATURES
from models.features.items import Items
from models.fingerprint import fp64s
from models.item_columns import ItemRecord
from models.item_index import ItemIndex
from models.items import DERIVED
from models.tables import GRID
from models.verbs import Role

SHOWN = 20_000
FEATURE = {one.name: one for one in FEATURES}
UNKNOWN = -1


def values(stood: list[tuple[int, float]], examined: list[int] | None = None) -> dict[str, list[float]]:
    """Features, in doublings, of items that each stood at one place only and are acted on, where looked at,
    at some rate. `examined`: sums that are not what the places say."""
    index, names = ItemIndex(1_000), [f"item-{n}" for n in range(len(stood))]
    index.upsert(ItemRecord(name, "ann", 0) for name in names)
    rows = np.zeros(len(stood), DERIVED)
    rows["tick"] = 1
    for n, (place, rate) in enumerate(stood):
        weight = int(EXAMINATION[place])
        acts = round(SHOWN * weight / UNIT * rate)
        rows["d7"][n, Role.EXPOSURE] = SHOWN
        rows["d7"][n, [Role.WEAK, Role.STRONG]] = acts, acts // 2
        rows["examined"][n] = SHOWN * weight if examined is None else examined[n]
    fps = fp64s(name.encode() for name in names)
    index.apply_derived(fps, rows)
    items, found = Items(index, index.lookup(fps).astype(np.int64), 0), {}
    for role in ("weak", "strong"):
        found[f"{role}_rate_7d"] = computed(f"{role}_rate_7d", items)
    found["rate_debiased"] = computed("rate_debiased", items)
    return found


def computed(name: str, items: Items) -> list[float]:
    out = np.empty(len(items.at))
    FEATURE[name].compute(items, out)
    whole: list[float] = (out / GRID).tolist()
    return whole


def test_equal_items_at_unequal_places_are_equal_again() -> None:
    found = values([(0, 0.02), (19, 0.02), (60, 0.02)])
    for role in ("weak", "strong"):
        plain = np.array(found[f"{role}_rate_7d"])
        debiased = plain + found["rate_debiased"]
        assert np.ptp(plain) > 2
        assert np.ptp(debiased) < 0.05


def test_the_better_item_wins_though_it_stood_low() -> None:
    found = values([(0, 0.01), (30, 0.03)])
    top, low = found["weak_rate_7d"]
    assert top > low
    debiased = np.add(found["weak_rate_7d"], found["rate_debiased"])
    assert debiased[1] - debiased[0] == pytest.approx(np.log2(3), abs=0.05)


def test_without_positions_there_is_nothing_to_correct() -> None:
    found = values([(UNKNOWN, 0.01), (UNKNOWN, 0.05), (UNKNOWN, 0.0)])
    assert found["rate_debiased"] == [0.0] * 3


@pytest.mark.parametrize("sums", [[-SHOWN * 45, 0], [0, 0], [1 << 33, 7], [7, 1 << 33]])
def test_sums_that_undos_left_wrong_give_numbers_within_bounds(sums: list[int]) -> None:
    """More impressions withdrawn at other places than they were counted at, or a count that ran over."""
    for name, found in values([(0, 0.5), (9, 0.01)], sums).items():
        assert all(abs(one) <= 24 for one in found), name
