"""Seen pages come back from the changelog however many there are at once."""

from __future__ import annotations

import numpy as np

from models.seen import PAGE, PAGE_BYTES, SeenPages


def test_many_pages_are_restored_in_one_go() -> None:
    count = 5_000
    written = np.arange(count * PAGE, dtype="<u8") + 1
    pages = SeenPages(count)
    pages.restore(np.arange(count), np.zeros(count, np.int64), written.tobytes())
    assert len(written.tobytes()) == count * PAGE_BYTES
    assert pages.pages == count
    again = np.concatenate([pages.stored(slot) for slot in (0, 1_023, 1_024, count - 1)])
    right = np.concatenate(
        [written[slot * PAGE : (slot + 1) * PAGE] for slot in (0, 1_023, 1_024, count - 1)]
    )
    assert again[again > 0].tolist() == right.tolist()
