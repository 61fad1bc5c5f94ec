"""What the demo's processes are told: of the visitor's own settings only the few that make sense here."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from demo.embedded import free_port
from streams.settings import PREFIX, SETTINGS_FILE, known_variables

API_PORT_WISHED = 8080
VISITORS_OWN = frozenset({"FEEDRANK_POLICY", "FEEDRANK_LOG_LEVEL", "API_HOST", "API_PORT"})
"""Settings that a visitor may give: another policy, more logs, another address of the page."""

OTHERS = (
    "KAFKA_BOOTSTRAP_SERVERS",
    "FEEDRANK_EMBEDDED",
    "REDIS_URL",
    "FEEDRANK_NAMESPACE",
    "FEEDRANK_POLICY",
    "TICK_S",
    "API_HOST",
    "API_PORT",
)
"""What another command needs to work on a running demo: nothing that says where this worker's state lies."""

FEEDRANK = (sys.executable, "-m", "feedrank.cli")
SIMULATOR = (sys.executable, "-m", "demo.simulator")


def settings_of(kafka: str, redis: str, data: Path) -> dict[str, str]:
    """Settings as suit a minute of demo: short ticks, checkpoints and sessions, ports that are free.

    RocksDB gets its rows early, since the embedded Kafka keeps only the end of a changelog.
    """
    found = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "FEEDRANK_EMBEDDED": "true",
        "REDIS_URL": redis,
        "FEEDRANK_NAMESPACE": "demo",
        "FEEDRANK_DATA_DIR": str(data),
        "WORKER_PORT": str(free_port()),
        "TICK_S": "1",
        "CHECKPOINT_MS": "500",
        "ROCKS_FLUSH_MS": "1000",
        "SESSION_TIMEOUT_MS": "4000",
        "GROUP_INSTANCE_ID": "demo",
    }
    found |= {name: os.environ[name] for name in VISITORS_OWN if os.environ.get(name)}
    if "FEEDRANK_POLICY" in found:
        found["FEEDRANK_POLICY"] = str(Path(found["FEEDRANK_POLICY"]).absolute())
    found.setdefault("API_PORT", str(free_port(API_PORT_WISHED)))
    return found


def settings_file(settings: Mapping[str, str]) -> str:
    """Text of a file for FEEDRANK_SETTINGS_FILE, with which other commands find the demo."""
    return "".join(f"{name}={settings[name]}\n" for name in OTHERS if name in settings)


def environment_with(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment without any setting of feedrank's, then `settings`."""
    ours = known_variables() | {SETTINGS_FILE}
    kept = {n: v for n, v in os.environ.items() if n not in ours and not n.startswith(PREFIX)}
    return {**kept, **settings}
