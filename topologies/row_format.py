"""Whether stored rows are of the format that this version reads and writes (2, 4)."""

from __future__ import annotations

USER_ROWS = 1
ITEM_ROWS = 3
"""1 had no `tick_ms` in the position record, 2 no impressions weighted by place and no
positions of the senders."""


def check_row_format(where: str, found: int, ours: int) -> None:
    """Raises ValueError for any other: a row's bytes do not say which format they are of."""
    if found > ours:
        raise ValueError(
            f"{where} holds rows of format {found}, this version writes {ours}: a newer feedrank wrote them. "
            "Start that version again, or replay into a new namespace"
        )
    if found < ours:
        raise ValueError(
            f"{where} holds rows of format {found}, this version writes {ours}: an older feedrank wrote "
            "them; replay into a new namespace (docs/operations.md, Upgrade)"
        )
