"""The user row (2): 1,488 bytes per user. docs/state.md lists every field and rule."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.rings import Ring
from models.tables import EPOCH_MS

IDS = 16
RING = 16
AUTHORS_MAX = 24
TOPICS_MAX = 16
EMBEDDING_DIM = 64
DAY_MS = 86_400_000

_INTERESTS = [
    ("author_fp", "<u4", (AUTHORS_MAX,)),
    ("author_pos", "<i4", (AUTHORS_MAX,)),
    ("author_neg", "<i4", (AUTHORS_MAX,)),
    ("topic_fp", "<u4", (TOPICS_MAX,)),
    ("topic_pos", "<i4", (TOPICS_MAX,)),
    ("topic_neg", "<i4", (TOPICS_MAX,)),
    ("embedding", "<i2", (EMBEDDING_DIM,)),
]
INTERESTS = np.dtype(_INTERESTS)
"""The last part of the row, changed by merges only."""

USER_ROW = np.dtype(
    [
        ("newest_ms", "<i8"),
        ("records", "<i8"),
        ("signal_ms", "<i8"),
        ("session_start_ms", "<i8"),
        ("session_depth", "<u4"),
        ("engaged", "<u4"),
        ("seen_count", "<u4"),
        ("merged_s", "<u4"),
        ("ids", "<u8", (IDS,)),
        ("m5", "<i2", (12, 4)),
        ("h1", "<i2", (24, 4)),
        ("d1", "<i4", (7, 5)),
        ("reserved", "V4"),
        ("long", "<i8", (2, 4)),
        ("ring_fp", "<u8", (RING,)),
        ("ring_s", "<u4", (RING,)),
        ("ring_act", "u1", (RING,)),
        *_INTERESTS,
    ]
)

INTERESTS_PART = np.dtype(
    {
        "names": ["interests"],
        "formats": [f"V{INTERESTS.itemsize}"],
        "offsets": [USER_ROW.itemsize - INTERESTS.itemsize],
        "itemsize": USER_ROW.itemsize,
    }
)
"""`rows.view(INTERESTS_PART)["interests"]`: that part of each row as opaque bytes, to view as INTERESTS."""

M5 = Ring(USER_ROW, "m5", 300_000)
H1 = Ring(USER_ROW, "h1", 3_600_000)
D1 = Ring(USER_ROW, "d1", DAY_MS)
LONG = Ring(USER_ROW, "long", EPOCH_MS)


def new_rows(count: int) -> NDArray[np.void]:
    """USER_ROW[count] of users who did nothing yet: all zeros."""
    return np.zeros(count, USER_ROW)
