"""What became of the records of a replay (1, 5): applied, repeated, withdrawn, or of no use, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from streams.durable import POSITION_KEY
from streams.store import ShardStore
from topologies.replay.shadow import Shadow
from topologies.replay.shard import MARK_KEY, Mark

DELTAS = "deltas"
"""In a sender's mark: the length of its log of item deltas. The other names are reasons of dead letters."""
OF_ITEMS = "items:"
"""Before the reasons for which items are dead letters: all senders have read the same items."""


@dataclass(slots=True)
class ReplayLedger:
    """Numbers of activities, and by reason of those that are dead letters; of items only these."""

    applied: int = 0
    duplicates: int = 0
    withdrawn: int = 0
    dead: Counter[str] = field(default_factory=Counter)
    dead_items: Counter[str] = field(default_factory=Counter)

    @property
    def records(self) -> int:
        """Activities that were read."""
        return self.applied + self.duplicates + self.withdrawn + self.dead.total()


def mark_of(length: int, dead: Mapping[str, int], dead_items: Mapping[str, int]) -> Mark:
    """What a sender's checkpoint keeps of its log's length and of dead letters by reason."""
    return {DELTAS: length, **dead, **{OF_ITEMS + reason: count for reason, count in dead_items.items()}}


def dead_of(mark: Mark) -> Counter[str]:
    """Dead letters of the sender's activities."""
    return Counter({k: n for k, n in mark.items() if k != DELTAS and not k.startswith(OF_ITEMS)})


def ledger(shadow: Shadow, partitions: Iterable[int]) -> ReplayLedger:
    """Of a replay whose shards nobody has open."""
    found = ReplayLedger()
    for partition in partitions:
        position, mark = _records(shadow.users(partition))
        found.applied += position.get("applied", 0)
        found.duplicates += position.get("duplicates", 0)
        found.withdrawn += position.get("withdrawn", 0)
        found.dead += dead_of(mark)
        of_items = {k.removeprefix(OF_ITEMS): n for k, n in mark.items() if k.startswith(OF_ITEMS)}
        found.dead_items |= Counter(of_items)
    return found


def _records(path: Path) -> tuple[Mark, Mark]:
    """The position record and the mark of a shard; empty where it has none."""
    if not path.exists():
        return {}, {}
    store = ShardStore(path)
    try:
        position, mark = (
            {} if found is None else orjson.loads(found) for found in store.get_many([POSITION_KEY, MARK_KEY])
        )
    finally:
        store.close()
    return position, mark
