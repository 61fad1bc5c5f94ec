"""From a past to a folder of vectors, turned onto the ones before; and from a folder to items to send."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedrank.embedding.engagements import engagements
from feedrank.embedding.factor import judged, learned
from feedrank.load.events import ItemEvent
from models.item_columns import ItemRecord
from models.learned.embeddings import aligned
from models.verbs import VerbTable
from streams.codec.embedding import quantise
from streams.embedding_folder import Embeddings, read_embeddings, write_embeddings
from streams.errors import ExitCode, OperatorError
from topologies.past import ItemChange, Past

I8 = NDArray[np.int8]


def make(
    past: Past, verbs: VerbTable, folder: Path, previous: Path | None, seed: int, source: str
) -> dict[str, Any]:
    """Learn, judge, align and write; returns the manifest. Raises OperatorError."""
    found = engagements(past.partitions, verbs)
    before = None if previous is None else read_embeddings(previous)
    model = learned(found, seed)
    ids = {change.fp: change.record.item_id for change in past.items if change.record is not None}
    known = np.array([fp in ids for fp in model.fp.tolist()], np.bool_)
    fp, vectors = model.fp[known], model.vectors[known]
    common = 0
    if before is not None:
        _, here, there = np.intersect1d(fp, before[0].fp, return_indices=True)
        common = len(here)
        vectors = aligned(vectors, before[0].vectors.astype(np.float64), (here, there))
    made = Embeddings(fp, tuple(ids[one] for one in fp.tolist()), vectors.astype(np.float32))
    about = {
        "name": folder.name,
        "source": source,
        "engagements": len(found),
        "people": int(found.user.max()) + 1 if len(found) else 0,
        "items": len(fp),
        "items_without_a_record": int((~known).sum()),
        "from_ms": int(found.time_ms.min()),
        "to_ms": int(found.time_ms.max()),
        "seed": seed,
        "metrics": judged(found, seed),
        "previous": None if before is None else before[1]["hash"],
        "items_turned_onto_the_previous": common,
    }
    return write_embeddings(folder, made, about)


@dataclass(slots=True)
class Publication:
    """Items with their vectors, for the items topic. After `events` is through: `same`, items that have the
    vector already; `without`, live items that have none, of them `taken` lost one of another origin."""

    made: Embeddings
    items: dict[int, ItemRecord]
    same: int = 0
    without: int = 0
    taken: int = 0
    sent: int = field(default=0)

    def own(self, previous: Embeddings | None) -> list[str]:
        """Items whose embedding is neither of these vectors nor of the previous ones: their producer's."""
        ours = [self.made] if previous is None else [self.made, previous]
        tables = [dict(zip(one.fp.tolist(), quantised(one), strict=True)) for one in ours]
        return [
            record.item_id
            for fp, record in self.items.items()
            if record.embedding is not None
            and not any(fp in table and (table[fp] == record.embedding).all() for table in tables)
        ]

    def events(self, now_ms: int, foreign: Collection[str] = ()) -> Iterator[ItemEvent]:
        """Whole records with the vector in place, those that change. `foreign`: ids of items whose embedding
        is of another origin; those that get no vector lose it, as the two cannot be compared."""
        whole, place = quantised(self.made), {fp: n for n, fp in enumerate(self.made.fp.tolist())}
        strange = frozenset(foreign)
        for fp, record in self.items.items():
            at = place.get(fp)
            if at is None:
                self.without += record.embedding is None or record.item_id in strange
                if record.item_id in strange:
                    self.taken += 1
                    yield _event(record, now_ms, None)
            elif record.embedding is not None and (record.embedding == whole[at]).all():
                self.same += 1
            else:
                self.sent += 1
                yield _event(record, now_ms, tuple(self.made.vectors[at].tolist()))


def _event(record: ItemRecord, now_ms: int, embedding: tuple[float, ...] | None) -> ItemEvent:
    known = (record.item_id, record.author, record.created_ms, now_ms, record.topics, record.title)
    return ItemEvent(*known, record.kind, embedding)


def quantised(made: Embeddings) -> I8:
    """int8[n, 64]: as the job stores them (docs/wire.md)."""
    return quantise(made.vectors)


def live(items: Iterable[ItemChange]) -> dict[int, ItemRecord]:
    """Items by fp as the last record has them, without those that went."""
    found: dict[int, ItemRecord] = {}
    for change in items:
        if change.record is None:
            found.pop(change.fp, None)
        else:
            found[change.fp] = change.record
    return found


def refused(own: list[str]) -> OperatorError:
    """Vectors of two models cannot be compared."""
    return OperatorError(
        f"{len(own)} items bring embeddings of their own ({', '.join(own[:3])}{', ...' if own[3:] else ''}): "
        "vectors of two models cannot be compared. Name the vectors published before with --previous, or "
        "put these in the place of all with --replace",
        ExitCode.BAD_INPUT,
    )
