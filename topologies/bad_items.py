"""Bad items (1, 5): every worker meets them, the owner of their partition's shard sets each aside once.

Whoever may become the owner keeps them, the newest in memory. Older ones are read again by the owner that
needs them, as fast as its checkpoints commit them: nothing is lost, and memory has a bound.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable

from aiokafka.errors import KafkaError

from streams.batch import RecordBatch
from streams.checkpoint import ShardLost
from streams.concerns import KafkaSettings
from streams.dead_letters import DeadLetter
from streams.log import logger
from streams.metrics import Metrics
from streams.shard import Shard
from streams.stretch import read_stretch
from topologies.item_shard import ItemShard
from wire.names import ITEMS

KEPT_MAX = 10_000
KEPT_BYTES_MAX = 32 << 20
"""Both of one partition of the items topic."""
RECORDS_PER_SLICE = 200
"""A record that does not decode takes 45 us of the loop; a good one 5, and 12 to be indexed."""
RETRY_S = 1.0

log = logger(__name__)

Decode = Callable[[RecordBatch], Awaitable[list[DeadLetter]]]


class BadItems:
    """By partition of the items topic: `letters` in offset order, complete from offset `complete_from` on."""

    def __init__(self) -> None:
        self.letters: defaultdict[int, deque[DeadLetter]] = defaultdict(deque)
        self.complete_from: defaultdict[int, int] = defaultdict(int)
        self._bytes: defaultdict[int, int] = defaultdict(int)

    def add(self, partition: int, bad: Iterable[DeadLetter]) -> None:
        """Keep these; the oldest make room."""
        kept = self.letters[partition]
        for letter in bad:
            kept.append(letter)
            self._bytes[partition] += _size(letter)
        while len(kept) > KEPT_MAX or self._bytes[partition] > KEPT_BYTES_MAX:
            gone = kept.popleft()
            self._bytes[partition] -= _size(gone)
            self.complete_from[partition] = gone.offset + 1


def _size(letter: DeadLetter) -> int:
    return len(letter.key or b"") + len(letter.value or b"")


class BadItemsAgain:
    """Reads bad items again that memory could not keep, for shards that have not set them aside yet."""

    def __init__(
        self, kafka: KafkaSettings, decode: Decode, failed: Callable[[BaseException], None], metrics: Metrics
    ) -> None:
        self._kafka, self._decode, self._failed, self._metrics = kafka, decode, failed, metrics
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def begin(self, shard: Shard[ItemShard], partition: int, stop: int) -> None:
        """Set aside what is missing of a partition of `items` before offset `stop`, in a task. Harmless while
        it runs."""
        if partition not in self._tasks:
            log.info("bad items are more than memory keeps; they are read again", partition=partition)
            task = asyncio.create_task(self._run(shard, partition, stop), name=f"bad items {partition}")
            self._tasks[partition] = task
            task.add_done_callback(lambda _: self._tasks.pop(partition, None))

    async def stop(self) -> None:
        """End reading; what is not committed is read by the next owner."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, shard: Shard[ItemShard], partition: int, stop: int) -> None:
        async def set_aside(batch: RecordBatch) -> None:
            letters = await self._decode(batch)
            self._metrics.set_aside(shard.state.set_aside(partition, letters, batch.next_offset))
            if letters:
                await shard.cut_now()

        try:
            start = shard.state.items_next.get(partition, 0)
            await read_stretch(
                self._kafka, ITEMS, start, stop, set_aside, partition=partition, records_max=RECORDS_PER_SLICE
            )
            shard.state.set_aside(partition, [], stop)  # compaction may have taken the last of them
        except ShardLost:
            return  # whoever opens it next begins where it has committed
        except (KafkaError, OSError, TimeoutError) as error:
            log.warning("reading bad items again after a pause", partition=partition, cause=repr(error))
            await asyncio.sleep(RETRY_S)
        except Exception as error:
            self._failed(error)
