"""The brokers: topics, and the coordinator of transactions (KIP-98, as brokers before 4.0 do it)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from aiokafka import TopicPartition
from aiokafka.errors import ConcurrentTransactions, InvalidProducerEpoch, InvalidTxnState, ProducerFenced

from tests.simulation.log import ABORT, COMMIT, PartitionLog, Record, packed
from tests.simulation.network import Network

State = Literal["empty", "open", "committing", "aborting"]
RETRY_S = 0.02


@dataclass
class Transaction:
    """What the coordinator knows of a transactional id."""

    producer: int
    epoch: int = -1
    state: State = "empty"
    partitions: set[TopicPartition] = field(default_factory=set)
    number: int = 0


class Broker:
    """`logs` of all topics; all is as replicated as the promises ask for, so nothing is lost."""

    def __init__(self, network: Network, topics: dict[str, int]) -> None:
        self.network, self.loop = network, network.loop
        self.logs = {
            TopicPartition(name, p): PartitionLog() for name, count in topics.items() for p in range(count)
        }
        self.partitions = topics
        self._transactions: dict[str, Transaction] = {}
        self._waiting: list[tuple[set[TopicPartition], asyncio.Future[None]]] = []

    # -- reading ---------------------------------------------------------------------------------------

    def ends(self, tps: Iterable[TopicPartition], committed: bool) -> dict[TopicPartition, int]:
        return {tp: self.logs[tp].stable if committed else self.logs[tp].end for tp in tps}

    def grown(self, tps: Iterable[TopicPartition]) -> asyncio.Future[None]:
        """Done when one of these has more to read."""
        future: asyncio.Future[None] = self.loop.create_future()
        self._waiting.append((set(tps), future))
        return future

    def _grew(self, tp: TopicPartition) -> None:
        still = []
        for tps, future in self._waiting:
            if future.done():
                continue
            if tp in tps:
                future.set_result(None)
            else:
                still.append((tps, future))
        self._waiting = still

    @property
    def transactional_ids(self) -> list[str]:
        """Those that were ever used."""
        return list(self._transactions)

    # -- writing ---------------------------------------------------------------------------------------

    def append(self, tp: TopicPartition, records: Sequence[Record]) -> int:
        """One batch, outside any transaction; returns the offset of the first."""
        numbered = [(n, *record[1:]) for n, record in enumerate(records)]
        base = self.logs[tp].append(packed(numbered), len(records))
        self._grew(tp)
        return base

    def produce(self, tp: TopicPartition, data: bytearray, count: int, producer: int, epoch: int) -> int:
        """Within the producer's transaction. Raises InvalidProducerEpoch where a later one was seen."""
        log = self.logs[tp]
        if epoch < log.epochs.get(producer, 0):
            raise InvalidProducerEpoch
        log.epochs[producer] = epoch
        return log.append(data, count, producer)

    def known(self, name: str, producer: int, epoch: int) -> Transaction:
        """The transaction of a producer that may still speak for its transactional id."""
        found = self._transactions[name]
        if producer != found.producer or epoch != found.epoch:
            raise ProducerFenced
        return found

    async def init_producer(self, name: str) -> tuple[int, int]:
        """A new epoch: from here on the predecessor's requests are refused. What it was about to commit is
        committed, what it had open is aborted."""
        mine = self._transactions.setdefault(name, Transaction(1_000 + len(self._transactions)))
        while mine.state != "empty":
            if mine.state == "open":
                mine.epoch += 1
                self._end(mine, ABORT)
            await asyncio.sleep(RETRY_S)
        mine.epoch += 1
        self.loop.note(f"{name} has epoch {mine.epoch}")
        return mine.producer, mine.epoch

    def add_partition(
        self, name: str, producer: int, epoch: int, tp: TopicPartition, timeout_s: float
    ) -> None:
        """Before the first record of a transaction to a partition."""
        mine = self.known(name, producer, epoch)
        if mine.state in ("committing", "aborting"):
            raise ConcurrentTransactions  # clients ask again
        if mine.state == "empty":
            mine.state, mine.partitions = "open", set()
            mine.number += 1
            self.loop.call_later(
                timeout_s, self._expire, mine, mine.number, context=self.network.servers.context
            )
        mine.partitions.add(tp)

    def _expire(self, mine: Transaction, number: int) -> None:
        if mine.state == "open" and mine.number == number:
            self.loop.note("transaction timed out")
            mine.epoch += 1
            self._end(mine, ABORT)

    def end_transaction(self, name: str, producer: int, epoch: int, how: int) -> None:
        """The coordinator decides at once; markers reach the partitions one after the other."""
        mine = self.known(name, producer, epoch)
        if mine.state == "open":
            self._end(mine, how)
        elif mine.state != "empty":
            raise InvalidTxnState

    def _end(self, mine: Transaction, how: int) -> None:
        mine.state = "committing" if how == COMMIT else "aborting"
        self.loop.spawn(self.network.servers, self._write_markers(mine, how))

    async def all_marked(self) -> None:
        """Returns when every transaction that was decided has its markers in all its partitions."""
        while any(one.state in ("committing", "aborting") for one in self._transactions.values()):  # noqa: ASYNC110
            await asyncio.sleep(RETRY_S)

    async def _write_markers(self, mine: Transaction, how: int) -> None:
        epoch, partitions = mine.epoch, sorted(mine.partitions)
        self.loop.random.shuffle(partitions)
        for tp in partitions:
            await asyncio.sleep(self.network.delay_s())
            self.logs[tp].mark(mine.producer, epoch, how)
            self._grew(tp)
        mine.state, mine.partitions = "empty", set()
