"""The items of a replay (5): read once in a process, all of them up to the end of the range."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np

from models.attribute_index import AttributeIndex
from models.item_index import ItemIndex
from streams.batch import RecordBatch
from streams.codec import ItemDecoder
from streams.codec.item_block import ItemBlockReader
from streams.registry import Registry, once_told
from topologies.catalogue import Catalogue
from topologies.replay.records import RecordLog
from topologies.replay.shadow import Definition


@dataclass(slots=True)
class ReplayItems:
    """Items of one definition; more than `items_max` live ones are not kept."""

    definition: Definition
    log: RecordLog
    registry: Registry | None
    items_max: int
    dead: Counter[str] = field(default_factory=Counter)
    """By reason, items that were of no use; of each partition as many as a worker keeps."""
    _catalogue: Catalogue | None = None
    _known: AttributeIndex | None = None

    async def catalogue(self) -> Catalogue:
        """The item index with all items, made at the first call."""
        if self._catalogue is None:
            made = self._empty(ItemIndex(self.items_max))
            async for batch in self._batches():
                await made.items_came(batch)
            self._catalogue, self.dead = made, _reasons(made)
        return self._catalogue

    async def known(self) -> ItemIndex | AttributeIndex:
        """What rows ask of items: the catalogue's index, or a smaller one where nothing will be ranked and no
        item would have to leave."""
        if self.definition.sink != "none" or self._catalogue is not None:
            return (await self.catalogue()).index
        if self._known is None:
            known = AttributeIndex()
            reader = self._empty(known)  # type: ignore[arg-type]  # a catalogue asks no more of it here
            blocks = ItemBlockReader(self.registry) if self.definition.value_format == "avro" else None
            async for batch in self._batches():
                if blocks is None or not await self._took(known, blocks, batch):
                    await reader.items_came(batch)
                if len(known) > self.items_max:
                    return (await self.catalogue()).index
            self._known, self.dead = known, _reasons(reader)
        return self._known

    async def _took(self, known: AttributeIndex, blocks: ItemBlockReader, batch: RecordBatch) -> bool:
        """Whether all items of a batch were good, and are known now."""
        found = await once_told(self.registry, lambda: blocks.read(batch))
        if found is not None:
            known.upsert_columns(found.fp, found.author_fp32, found.topic_fp32, found.embedding)
        return found is not None

    def _empty(self, index: ItemIndex) -> Catalogue:
        decoder = ItemDecoder(self.definition.value_format, self.registry)
        return Catalogue(index, decoder, self.registry, self.definition.partitions, lambda fps: None)

    async def _batches(self) -> AsyncIterator[RecordBatch]:
        """Without what was written at the end of the range or later."""
        to_ms = self.definition.to_ms
        async for batch in self.log.items():
            if to_ms is None or not (batch.timestamps_ms >= to_ms).any():
                yield batch
                continue
            kept = np.flatnonzero(batch.timestamps_ms < to_ms)
            yield RecordBatch(
                batch.topic,
                batch.partition,
                batch.start,
                batch.next_offset,
                batch.offsets[kept],
                batch.timestamps_ms[kept],
                [batch.keys[i] for i in kept.tolist()],
                [batch.values[i] for i in kept.tolist()],
            )


def _reasons(catalogue: Catalogue) -> Counter[str]:
    letters = catalogue.bad_items.letters.values()
    return Counter(letter.reason.value for some in letters for letter in some)
