"""Several KRaft nodes on this machine, replication 3: what a broker that dies takes with it, and what not."""

from __future__ import annotations

import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path

from tests.services import Kafka, broker_command, free_port, server_properties

HEAP_MB = 384
REPLICATED = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "unclean.leader.election.enable": "false",
}


def start_cluster(directory: Path, ports: Sequence[int], advertised: Sequence[int]) -> list[Kafka]:
    """Nodes that listen on `ports` and are told to clients as `advertised`, all of them ready.

    Raises ServiceMissing when one can't start.
    """
    controllers = [free_port() for _ in ports]
    voters = ",".join(f"{n}@127.0.0.1:{port}" for n, port in enumerate(controllers, 1))
    cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    brokers = []
    for n, (port, outside, controller) in enumerate(zip(ports, advertised, controllers, strict=True), 1):
        logs = directory / f"broker-{n}" / "log"
        logs.mkdir(parents=True)
        lines = server_properties(port, controller, logs) | REPLICATED
        lines |= {
            "node.id": str(n),
            "controller.quorum.voters": voters,
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{outside}",
        }
        (logs.parent / "server.properties").write_text("".join(f"{k}={v}\n" for k, v in lines.items()))
        own = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        meta = f"version=1\ncluster.id={cluster}\ndirectory.id={own}\nnode.id={n}\n"
        (logs / "meta.properties").write_text(meta)
        brokers.append(Kafka(broker_command(logs.parent, HEAP_MB), port, logs.parent / "kafka.log"))
    for broker in brokers:  # none is ready before most of them are there
        broker.launch()
    for broker in brokers:
        broker.await_ready()
    return brokers
