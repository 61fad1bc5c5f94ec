"""Three Redis nodes that share the slots of one Cluster, on ports of their own.

with three_nodes(folder) as cluster:
    FeedReader.from_url(cluster.url, cluster=True)
    cluster.move(cluster.slot("feed:live:for_you:{ann}"), to=2)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot

from tests.services import Redis, free_port, redis_binary
from tests.waiting import until

SLOTS = 16_384
NODES = 3
BUS_OFFSET = 10_000
HOST = "127.0.0.1"
MIGRATE_MS = 5_000


@dataclass
class Cluster:
    """`nodes`: a client of each, which follows no redirection."""

    nodes: list[Any]
    url: str
    owners: list[int]
    """The node of each slot."""

    def slot(self, key: str) -> int:
        return int(key_slot(key.encode()))

    def node_of(self, key: str) -> int:
        return self.owners[self.slot(key)]

    def begin_move(self, slot: int, to: int) -> None:
        """From now on both nodes answer for the slot: who has no key of it asks the other."""
        ids = self._ids()
        self.nodes[to].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[self.owners[slot]])
        self.nodes[self.owners[slot]].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[to])

    def carry(self, slot: int, to: int, *but: bytes) -> None:
        """Its keys go over."""
        source = self.nodes[self.owners[slot]]
        keys = [key for key in source.execute_command("CLUSTER GETKEYSINSLOT", slot, 1_000) if key not in but]
        if keys:
            port = self.nodes[to].connection_pool.connection_kwargs["port"]
            source.execute_command("MIGRATE", HOST, port, "", 0, MIGRATE_MS, "KEYS", *keys)

    def end_move(self, slot: int, to: int) -> None:
        """The slot is the other node's, and the old one answers MOVED."""
        for number in (to, *(n for n in range(NODES) if n != to)):
            self.nodes[number].execute_command("CLUSTER SETSLOT", slot, "NODE", self._ids()[to])
        self.owners[slot] = to

    def move(self, slot: int, to: int) -> None:
        """All of it."""
        self.begin_move(slot, to)
        self.carry(slot, to)
        self.end_move(slot, to)

    def _ids(self) -> list[str]:
        return [_text(node.execute_command("CLUSTER MYID")) for node in self.nodes]


@contextmanager
def three_nodes(folder: Path) -> Iterator[Cluster]:
    """About 3 s until they agree. Raises ServiceMissing."""
    with ExitStack() as ending:
        servers = [_server(folder / f"node-{n}") for n in range(NODES)]
        for server in servers:
            server.launch()
            ending.callback(server.kill)
        for server in servers:
            server.await_ready()
        nodes: list[Any] = [ending.enter_context(redis.Redis(port=server.port)) for server in servers]
        owners = [slot * NODES // SLOTS for slot in range(SLOTS)]
        for number, node in enumerate(nodes):
            mine = [slot for slot in range(SLOTS) if owners[slot] == number]
            node.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            node.execute_command("CLUSTER ADDSLOTS", *mine)
            node.execute_command("CLUSTER MEET", HOST, servers[0].port)
        until(lambda: all(map(_agrees, nodes)), "three nodes are one cluster")
        yield Cluster(nodes, servers[0].url, owners)


def _server(folder: Path) -> Redis:
    folder.mkdir(parents=True)
    port = free_port()
    while port > 65_535 - BUS_OFFSET:
        port = free_port()
    command = [redis_binary(), "--port", str(port), "--bind", HOST, "--dir", str(folder), "--save", ""]
    command += ["--cluster-enabled", "yes", "--cluster-announce-ip", HOST]
    return Redis(command, port, folder / "redis.log")


def _agrees(node: Any) -> bool:
    info = node.execute_command("CLUSTER INFO")
    known = (info["cluster_state"], int(info["cluster_known_nodes"]), int(info["cluster_slots_ok"]))
    return known == ("ok", NODES, SLOTS)


def _text(reply: bytes | str) -> str:
    return reply.decode() if isinstance(reply, bytes) else reply
