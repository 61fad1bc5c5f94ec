"""Names of what rows only hold fingerprints of: items, authors, topics, as the items say them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from models.fingerprint import FP32, fp64
from models.item_columns import ItemRecord

FP48 = (1 << 48) - 1


@dataclass(slots=True)
class Names:
    """By fingerprint; what no item says stays a number."""

    items: dict[int, ItemRecord] = field(default_factory=dict)
    _of32: dict[int, str] = field(default_factory=dict)
    _of48: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[ItemRecord]) -> Names:
        """From the items that there are."""
        found = cls()
        for record in records:
            found.items[fp64(record.item_id.encode())] = record
            for name in (record.author, *record.topics):
                fp = fp64(name.encode())
                found._of32[fp & int(FP32)] = found._of48[fp & FP48] = name
        return found

    def item(self, fp: int) -> str:
        """An item's id, with its title."""
        record = self.items.get(fp)
        if record is None:
            return f"item #{fp:016x}"
        return record.item_id if record.title is None else f"{record.item_id} ({record.title})"

    def item_of32(self, fp32: int, by32: dict[int, int]) -> str:
        """The same for the low half of a fingerprint; `by32` as `low_halves` gives it."""
        return self.item(by32[fp32]) if fp32 in by32 else f"item #…{fp32:08x}"

    def low_halves(self) -> dict[int, int]:
        """Low 32 bits -> fingerprint of each item."""
        return {fp & int(FP32): fp for fp in self.items}

    def short(self, fp32: int) -> str:
        """An author or topic by the low 32 bits."""
        return self._of32.get(fp32, f"#…{fp32:08x}")

    def edge(self, fp48: int) -> str:
        """An author, topic or keyword by the low 48 bits."""
        return self._of48.get(fp48, f"#…{fp48:012x}")
