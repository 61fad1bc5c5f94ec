"""What comes before a worker's loop: settings checked against the brokers, the policy and the registry."""

from __future__ import annotations

from collections.abc import Callable

from streams.log import logger, setup
from streams.policy_file import read_policy
from streams.registry import Registry
from streams.settings import Settings
from streams.topics_admin import TopicsAdmin
from streams.transport import ShardApp
from topologies.agents import build
from wire.names import ACTIVITIES, ITEMS

log = logger(__name__)


def prepare(settings: Settings) -> Callable[[], ShardApp]:
    """Check everything that can be checked; returns what makes the app.

    Raises OperatorError: policy, broker, topics, registry.
    """
    setup(settings.observability)
    policy = read_policy(settings.worker.policy)
    registry = _connected(settings)
    admin = TopicsAdmin(settings.kafka, settings.names)
    if settings.kafka.embedded:
        admin.create()
    report = admin.check()
    report.demand()
    for finding in report.findings:
        if finding.at_start:
            log.warning(str(finding).removeprefix("warning: "))
    partitions = admin.partitions(ACTIVITIES)
    return lambda: build(settings, policy, partitions, registry)


def _connected(settings: Settings) -> Registry | None:
    """The schema registry where one is set, its schemas checked; None: the bundled ones."""
    url, auth = settings.kafka.schema_registry_url, settings.kafka.schema_registry_auth
    if url is None:
        return None
    registry = Registry(url, auth.get_secret_value() if auth else None)
    if settings.worker.format == "avro":
        registry.check_subject(ACTIVITIES, "activity")
        registry.check_subject(ITEMS, "item")
    return registry
