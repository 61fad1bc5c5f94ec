"""What is known of each item (5), as columns by slot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.fingerprint import FP32, fp64
from models.items import DERIVED, ENGAGERS
from models.slots import Slots, doubled
from models.words import title_bits

I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

EMBEDDING_DIM = 64
ITEM_TOPICS_MAX = 4
ENGAGER_BITS_MASK = (1 << 15) - 1
CREATED_MS_MAX = (1 << 44) - 1


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """An item as it comes in. `embedding` int8[64] or None; the first four distinct `topics` count."""

    item_id: str
    author: str
    created_ms: int
    topics: tuple[str, ...] = ()
    embedding: I8 | None = None
    title: str | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Attributes:
    """Of k items: known bool[k], author_fp32 uint32[k], topic_fp32 uint32[k, 4] (0 = none), embedding
    int8[k, 64]; zeros where unknown."""

    known: NDArray[np.bool_]
    author_fp32: NDArray[np.uint32]
    topic_fp32: NDArray[np.uint32]
    embedding: I8


class Watcher(Protocol):
    """Keeps something about items."""

    def changed(self, slots: I64) -> None:
        """These slots hold other items, or items of which something else is known. (Sums: see Statistics.)"""
        ...


class ItemColumns:
    """One slot per item.

    fp uint64[n], created_ms int64[n], author int32[n], topics int32[n, 4] (-1 = none), embedding int8[n, 64],
    embedding_square float64[n] (its squared length), has_embedding bool[n], live bool[n], derived DERIVED[n],
    trend int64[n] and engager_bits uint16[n, 16] (of derived: the score, and the lowest bits of the engagers'
    fingerprints), title_fp and title_bits uint64[n] (0 = none; see models.words); ids, title, kind are lists.
    A slot that is not live has author and topics -1. `topics_most` (1 to 4): no item ever had
    more topics.
    """

    def __init__(self, reserve: int) -> None:
        self.slots = Slots()
        self.fp: U64 = np.zeros(reserve, np.uint64)
        self.created_ms: I64 = np.zeros(reserve, np.int64)
        self.author: I32 = np.zeros(reserve, np.int32)
        self.topics: I32 = np.zeros((reserve, ITEM_TOPICS_MAX), np.int32)
        self.topics_most = 1
        self.embedding: I8 = np.zeros((reserve, EMBEDDING_DIM), np.int8)
        self.embedding_square: NDArray[np.float64] = np.zeros(reserve)
        self.has_embedding: NDArray[np.bool_] = np.zeros(reserve, np.bool_)
        self.live: NDArray[np.bool_] = np.zeros(reserve, np.bool_)
        self.derived: NDArray[np.void] = np.zeros(reserve, DERIVED)
        self.trend: I64 = np.zeros(reserve, np.int64)
        self.engager_bits: NDArray[np.uint16] = np.zeros((reserve, ENGAGERS), np.uint16)
        self.title_fp: U64 = np.zeros(reserve, np.uint64)
        self.title_bits: U64 = np.zeros(reserve, np.uint64)
        self.ids: list[str] = []
        self.title: list[str | None] = []
        self.kind: list[str | None] = []

    def recency(self, item: int) -> tuple[int, int]:
        """What 'newer' means everywhere: larger (created_ms, fp)."""
        return self.created_ms.item(item), self.fp.item(item)

    def take(self) -> int:
        """A slot for a new item."""
        slot = self.slots.take()
        if slot == len(self.ids):
            self.ids.append("")
            self.title.append(None)
            self.kind.append(None)
        if slot == len(self.fp):
            self._grow()
        return slot

    def clear(self, slots: I64) -> None:
        """These items have gone; their slots are free."""
        self.live[slots] = self.has_embedding[slots] = False
        self.engager_bits[slots] = 0
        self.author[slots] = self.topics[slots] = -1
        self.trend[slots] = self.title_fp[slots] = self.title_bits[slots] = 0
        for slot in slots.tolist():
            self.ids[slot], self.title[slot], self.kind[slot] = "", None, None
            self.slots.free(slot)

    def entitle(self, slots: I64, titles: list[str | None]) -> None:
        """What rules ask of titles: whether two are equal, and which may have a word."""
        self.title_fp[slots] = [fp64(title.encode()) if title else 0 for title in titles]
        self.title_bits[slots] = [title_bits(title) if title else 0 for title in titles]

    def _grow(self) -> None:
        self.fp, self.created_ms, self.author = (
            doubled(self.fp),
            doubled(self.created_ms),
            doubled(self.author),
        )
        self.topics, self.embedding = doubled(self.topics), doubled(self.embedding)
        self.embedding_square, self.engager_bits = doubled(self.embedding_square), doubled(self.engager_bits)
        self.has_embedding, self.live = doubled(self.has_embedding), doubled(self.live)
        self.derived, self.trend = doubled(self.derived), doubled(self.trend)
        self.title_fp, self.title_bits = doubled(self.title_fp), doubled(self.title_bits)


def distinct_topics(record: ItemRecord) -> list[tuple[str, int]]:
    """The first four distinct topics with their fingerprints."""
    found: dict[int, tuple[str, int]] = {}
    for identifier in record.topics:
        fp = fp64(identifier.encode())
        found.setdefault(fp & int(FP32), (identifier, fp))
    return list(found.values())[:ITEM_TOPICS_MAX]


def check(record: ItemRecord) -> None:
    """Raises ValueError."""
    if not 0 <= record.created_ms <= CREATED_MS_MAX:
        raise ValueError(
            f"item {record.item_id!r} was created at {record.created_ms} ms; decode must refuse it"
        )
    if record.embedding is not None and record.embedding.shape != (EMBEDDING_DIM,):
        shape = record.embedding.shape
        raise ValueError(f"item {record.item_id!r} has an embedding of shape {shape}; decode must refuse it")
