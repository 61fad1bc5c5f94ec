"""What feedrank's changelog says of the 5-minute windows, to compare with brute force."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.brute import WINDOWS
from benchmarks.peers.changelog import changelog
from benchmarks.stream import START_MS, VERBS, WINDOW_MS, ActivityStream
from models.users import USER_ROW

ROLE_OF_VERB = {"impression": 0, "click": 1, "dwell": 1, "visit": 1, "hide": 3}
"""All other verbs of the stream are strong (2)."""
ROLES = 4
USER_TAG = b"u"

Cells = tuple[NDArray[np.int64], NDArray[np.int64]]


def expected_by_role(stream: ActivityStream) -> Cells:
    """Codes and counts per (user, window, role), brute force."""
    columns = stream.columns
    roles = np.array([ROLE_OF_VERB.get(verb, 2) for verb in VERBS])[columns["verb"]]
    window = (columns["event_ms"] - START_MS) // WINDOW_MS
    codes, counts = np.unique((columns["user"] * WINDOWS + window) * ROLES + roles, return_counts=True)
    return codes, counts.astype(np.int64)


def found_by_role(bootstrap: str, topic: str) -> Cells:
    """The same, read from the newest user rows in the changelog."""
    latest = dict(_user_rows(changelog(bootstrap, topic)))
    users = np.array([int(key[3:]) for key in latest], np.int64)
    rows = np.frombuffer(b"".join(latest.values()), USER_ROW)
    counts = rows["m5"].astype(np.int64)  # [users, 12 slots, roles]
    kept = counts.shape[1]
    newest = rows["newest_ms"] // WINDOW_MS
    slots = np.arange(kept)
    bucket = newest[:, None] - (newest[:, None] - slots[None, :]) % kept
    window = bucket - START_MS // WINDOW_MS
    code = (users[:, None, None] * WINDOWS + window[:, :, None]) * ROLES + np.arange(ROLES)
    there = counts != 0
    order = np.argsort(code[there])
    return code[there][order], counts[there][order]


def _user_rows(records: Iterator[tuple[bytes, bytes | None]]) -> Iterator[tuple[bytes, bytes]]:
    for key, value in records:
        if key.startswith(USER_TAG) and value is not None:
            yield key, value
