"""TLS, SCRAM and exactly the rights that docs/security.md names, on a real broker and a real Redis."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from feedrank.load.events import ItemEvent
from feedrank.load.send import Sender, encoder
from serving.reader import FeedReader
from streams.concerns import KafkaSettings
from streams.errors import ExitCode
from tests.chaos.proxy import Proxy
from tests.conftest import absent
from tests.integration.conftest import BEGAN_MS, ITEMS, PARTITIONS, activities, drained, lags
from tests.integration.job import Job
from tests.services import ROOT, Kafka, Redis, ServiceMissing, free_port, start_kafka
from tests.waiting import GUARD_S, ended, until

pytestmark = pytest.mark.kafka

DOCS = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
PASSWORDS = {name: f"{name}-secret-4711" for name in ("worker", "producer", "reader")}


def table(name: str) -> list[list[str]]:
    """Cells of the rows between two marks of the page."""
    text = DOCS.partition(f"<!-- {name} -->")[2].partition(f"<!-- end of {name} -->")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()]


def certificates(directory: Path) -> None:
    """An authority and a certificate of 127.0.0.1, self-made."""
    if shutil.which("openssl") is None:
        absent("no certificates: `openssl` is not on PATH; install it (Debian: apt install openssl)")
    ca = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=feedrank tests"]
    commands = [
        ["req", *ca, "-keyout", "ca.key", "-out", "ca.pem"],
        ["req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=here", "-keyout", "key.pem", "-out", "csr"],
        ["x509", "-req", "-in", "csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
         "-extfile", "names", "-out", "cert.pem"],
    ]  # fmt: skip
    (directory / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for command in commands:
        subprocess.run(["openssl", *command], cwd=directory, check=True, capture_output=True)
    key = subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-nocrypt", "-in", "key.pem"],
        cwd=directory,
        check=True,
        capture_output=True,
    )
    (directory / "broker.pem").write_bytes(key.stdout + (directory / "cert.pem").read_bytes())


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kafka, str, Path]]:
    """A broker with a listener for administrators and one for clients; the latter's address; certificates."""
    folder, port, outside, controller = (
        tmp_path_factory.mktemp("secure"),
        free_port(),
        free_port(),
        free_port(),
    )
    certificates(folder)
    host = "127.0.0.1"
    properties = {
        "listeners": f"PLAINTEXT://{host}:{port},SASL_SSL://{host}:{outside},CONTROLLER://{host}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{host}:{port},SASL_SSL://{host}:{outside}",
        "controller.quorum.voters": f"1@{host}:{controller}",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "broker.pem"),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    try:
        broker = start_kafka(folder, port, properties=properties)
    except ServiceMissing as missing:
        absent(missing)
    yield broker, f"{host}:{outside}", folder
    broker.kill()


def rights(component: str, namespace: str) -> list[AclBinding]:
    """The page's rows as the broker takes them."""
    kinds = {
        "topic": ResourceType.TOPIC,
        "group": ResourceType.GROUP,
        "transactional": ResourceType.TRANSACTIONAL_ID,
    }
    found = []
    for who, resource, operations in table("rights"):
        name = re.search("`(.*)`", resource)
        assert name
        pattern = ResourcePatternType.PREFIXED if "prefix" in resource else ResourcePatternType.LITERAL
        for operation in operations.split(", ") if who == component else ():
            word = re.sub(r"(?<!^)([A-Z])", r"_\1", operation).upper()
            found.append(
                AclBinding(
                    kinds[resource.split()[0]],
                    name[1].replace("feedrank.live", f"feedrank.{namespace}"),
                    pattern,
                    f"User:{component}",
                    "*",
                    AclOperation[word],
                    AclPermissionType.ALLOW,
                )
            )
    return found


def allow(broker: Kafka, namespace: str) -> None:
    """Users with passwords, and the page's rights."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4_096)
    users = [UserScramCredentialUpsertion(n, info, PASSWORDS[n].encode()) for n in ("worker", "producer")]
    wanted = [*rights("worker", namespace), *rights("producer", namespace)]
    for done in (*admin.alter_user_scram_credentials(users).values(), *admin.create_acls(wanted).values()):
        done.result(GUARD_S)


def client(component: str, folder: Path) -> dict[str, str]:
    return {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_USERNAME": component,
        "KAFKA_SASL_PASSWORD": PASSWORDS[component],
        "KAFKA_SSL_CAFILE": str(folder / "ca.pem"),
    }


@pytest.fixture
def guarded(private_redis: Redis, secure: tuple[Kafka, str, Path]) -> Iterator[Callable[[str], str]]:
    """A Redis with the page's users, behind TLS: the URL for a component."""
    folder = secure[2]
    with redis.Redis(port=private_redis.port) as admin:
        for who, rule in table("redis rights"):
            admin.execute_command(
                "ACL", "SETUSER", who, "on", "resetchannels", f">{PASSWORDS[who]}", *rule.strip("`").split()
            )
        admin.execute_command("ACL", "SETUSER", "default", "off")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    proxy = Proxy(private_redis.port, context=context)
    ca = folder / "ca.pem"
    yield lambda who: f"rediss://{who}:{PASSWORDS[who]}@127.0.0.1:{proxy.port}/0?ssl_ca_certs={ca}"
    proxy.stop()


@pytest.fixture
def job(
    secure: tuple[Kafka, str, Path], guarded: Callable[[str], str], tmp_path: Path, namespace: str
) -> Iterator[Job]:
    broker, outside, folder = secure
    with Job(broker.bootstrap, guarded("worker"), tmp_path, namespace) as inside:
        inside.create_topics(PARTITIONS)
    settings = client("worker", folder) | {"FEEDRANK_LOG_LEVEL": "debug"}
    with Job(outside, guarded("worker"), tmp_path, namespace, settings) as one:
        allow(broker, namespace)
        yield one
        for worker in one.workers:
            text = worker.log.read_text()
            assert not [secret for secret in PASSWORDS.values() if secret in text]


def test_a_job_works_with_the_rights_of_the_page_and_tells_no_secret(
    job: Job, secure: tuple[Kafka, str, Path], guarded: Callable[[str], str]
) -> None:
    broker, outside, folder = secure
    settings: Any = {"KAFKA_BOOTSTRAP_SERVERS": outside, **client("producer", folder)}
    sender = Sender(KafkaSettings(**settings), encoder("avro"))
    items = [ItemEvent(f"i{n}", f"author-{n % 7}", BEGAN_MS, BEGAN_MS, ("tea",)) for n in range(ITEMS)]
    for _ in sender.send([*items, *activities(400, seed=3)]):
        pass
    worker = job.start_worker()
    inside = Job(broker.bootstrap, job.redis_url, job.directory, job.namespace)
    until(lambda: drained(inside), "all is applied", lambda: lags(inside))
    reader = FeedReader.from_url(guarded("reader"), namespace=job.namespace)
    until(lambda: reader.page("private-person-1", record=False).source == "feed", "a feed is there")
    page = reader.page("private-person-1", limit=3)
    assert page.entries
    assert reader.page("private-person-1", limit=3, cursor=page.cursor).entries
    reader.hide("private-person-1", "item", page.entries[0].id)
    reader.close()
    assert worker.stop() == 0


def test_a_right_that_is_missing_is_named(job: Job, secure: tuple[Kafka, str, Path]) -> None:
    admin = AdminClient({"bootstrap.servers": secure[0].bootstrap})
    lacking = [one for one in rights("worker", job.namespace) if one.restype == ResourceType.TRANSACTIONAL_ID]
    filters = [_filter(one) for one in lacking]
    for done in admin.delete_acls(filters).values():
        done.result(GUARD_S)
    worker = job.launch(FEEDRANK_LOG_LEVEL="info")
    code, _ = ended(worker.process)
    text = worker.log.read_text()
    assert code in (ExitCode.TOPICS_WRONG, ExitCode.BROKER_UNREACHABLE), text
    assert "transactional id" in text


def test_a_wrong_password_is_one_message(job: Job) -> None:
    worker = job.launch(KAFKA_SASL_PASSWORD="not-it-0815", FEEDRANK_LOG_LEVEL="info")
    code, _ = ended(worker.process)
    lines = worker.log.read_text().splitlines()
    assert code == ExitCode.BROKER_UNREACHABLE
    assert len(lines) == 1
    assert "KAFKA_" in lines[0]
    assert "not-it-0815" not in lines[0]


def _filter(one: AclBinding) -> Any:
    from confluent_kafka.admin import AclBindingFilter

    return AclBindingFilter(
        one.restype,
        one.name,
        one.resource_pattern_type,
        one.principal,
        one.host,
        one.operation,
        one.permission_type,
    )
