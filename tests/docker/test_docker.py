"""docker/ agrees with the code: settings, commands, ports, metrics; the image is slim and not root."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import lightgbm
import pytest

from feedrank.cli import COMMANDS
from serving.metrics import ApiMetrics
from streams.metrics import OUTCOMES, STAGES, Metrics
from streams.settings import Settings, known_variables
from tests.docker import plain_yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = plain_yaml.load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("topics", "worker", "api")
DASHBOARD = json.loads((DOCKER / "grafana" / "dashboards" / "feedrank.json").read_text())
DOCKERFILE = (DOCKER / "Dockerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """(instruction, rest) of the Dockerfile, continued lines joined."""
    joined = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", DOCKERFILE))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line]


OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def alerts() -> list[str]:
    """PromQL of the table of alerts and of what to look at; a histogram may be named without its suffix."""
    section = OPERATIONS[OPERATIONS.index("## Health") : OPERATIONS.index("### The watchdog")]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    found = [code for row in rows for code in re.findall(r"`([^`]+)`", row) if "feedrank_" in code]
    return [f"{code}_bucket" if f"{code}_bucket" in exported() else code for code in found]


def expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def exported() -> dict[str, set[str]]:
    """Sample names that the worker and the API can export, each with its labels."""
    found: dict[str, set[str]] = {}
    for metric in [*vars(Metrics()).values(), *vars(ApiMetrics()).values()]:
        if not hasattr(metric, "_labelnames"):
            continue
        labels = set(metric._labelnames)
        for family in metric.describe():
            suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
            for suffix in suffixes.get(family.type, [""]):
                found[family.name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    return found


@pytest.mark.parametrize("service", OURS)
def test_every_variable_of_our_services_is_a_setting_that_is_accepted(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment: dict[str, str] = SERVICES[service]["environment"]
    assert set(environment) <= known_variables()
    for name in known_variables():
        monkeypatch.delenv(name, raising=False)
    assert Settings.load(environment).worker.namespace == "live"


@pytest.mark.parametrize("service", OURS)
def test_our_services_run_commands_that_exist_from_the_one_image(service: str) -> None:
    assert SERVICES[service]["command"][0] in COMMANDS
    assert SERVICES[service]["build"]["dockerfile"] == "docker/Dockerfile"


def test_addresses_name_services_of_the_file() -> None:
    text = (DOCKER / "compose.yaml").read_text()
    named = re.findall(r"(?:KAFKA_BOOTSTRAP_SERVERS: |http://|redis://|PLAINTEXT://)([a-z-]+):\d+", text)
    assert set(named) - {"localhost"} <= set(SERVICES)
    assert {"kafka", "redis", "schema-registry"} <= set(named)


def test_services_wait_for_services_and_mount_volumes_that_exist() -> None:
    for service in SERVICES.values():
        assert set(service.get("depends_on", [])) <= set(SERVICES)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (DOCKER / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
    mounted = {v.split(":")[0] for service in SERVICES.values() for v in service.get("volumes", [])}
    assert set(COMPOSE["volumes"]) <= mounted, "a volume that nobody mounts"


def test_workers_can_be_scaled_each_with_a_data_directory_of_its_own() -> None:
    worker = SERVICES["worker"]
    assert not worker.get("volumes"), "replicas would share it, and only one may have the directory"
    assert not {"container_name", "hostname", "ports"} & set(worker), "there can be one of these"
    assert "FEEDRANK_DATA_DIR" not in worker["environment"]
    [volume] = [rest for what, rest in instructions() if what == "VOLUME"]
    assert f"FEEDRANK_DATA_DIR={volume} " in re.sub(r"\s+", " ", DOCKERFILE)


def test_images_are_pinned_and_published_ports_stay_on_this_machine() -> None:
    for name, service in SERVICES.items():
        image = service["image"]
        assert name in OURS or re.search(r":v?\d+\.\d+", image), f"{image} has no version"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_stop_grace_period_is_longer_than_the_time_to_drain() -> None:
    assert (
        int(SERVICES["worker"]["stop_grace_period"].removesuffix("s")) * 1_000
        > Settings.load({}).worker.stop_ms
    )


def test_the_broker_of_the_trial_does_not_make_topics_by_itself() -> None:
    assert SERVICES["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_the_image_has_one_entry_point_is_not_root_and_is_checked_for_life() -> None:
    found = instructions()
    assert [json.loads(rest) for what, rest in found if what == "ENTRYPOINT"] == [["feedrank"]]
    user = next(rest for what, rest in found if what == "USER")
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    assert any(what == "HEALTHCHECK" and "/livez" in rest for what, rest in found)


def test_the_image_is_slim_pinned_and_built_in_stages() -> None:
    bases = [rest for what, rest in instructions() if what == "FROM"]
    assert len(bases) == 2
    assert all("-slim" in base and ":latest" not in base for base in bases)
    assert "--constraint constraints.txt" in DOCKERFILE
    assert not re.search(r"sudo|ADD |curl .*\|", DOCKERFILE)
    assert re.findall(r"apt-get install .*", DOCKERFILE) == [
        "apt-get install --yes --no-install-recommends libgomp1 \\"
    ]


def test_the_image_ranks_with_trees() -> None:
    assert '".[train]"' in DOCKERFILE, "a policy that names trees would not start"
    linked = next(iter((Path(lightgbm.__file__).parent / "lib").glob("lib_lightgbm.*"))).read_bytes()
    assert (b"libgomp.so.1" in linked) == ("libgomp1" in DOCKERFILE)


def test_the_image_carries_every_package_and_nothing_that_is_not_there() -> None:
    copied = {part for what, rest in instructions() if what == "COPY" for part in rest.split()[:-1]}
    for name in copied - {"--from=build", "/opt/feedrank"}:
        assert (ROOT / name).exists(), f"the Dockerfile copies {name}, which is not there"
    packages = {"wire", "models", "streams", "topologies", "serving", "demo", "feedrank"}
    assert packages <= copied
    kept = (DOCKER / "Dockerfile.dockerignore").read_text()
    assert all(f"!{name}\n" in kept for name in packages | {"constraints.txt", "pyproject.toml"})


def test_variables_that_the_image_sets_are_settings() -> None:
    text = " ".join(rest for what, rest in instructions() if what == "ENV")
    names = set(re.findall(r"\b([A-Z_]+)=", text)) - {"PATH"}
    ours = {name for name in names if not name.startswith(("PIP_", "PYTHON"))}
    assert ours <= known_variables()


def test_prometheus_scrapes_the_ports_of_the_worker_and_the_api() -> None:
    found = plain_yaml.load((DOCKER / "prometheus.yml").read_text())
    worker, api = found["scrape_configs"]
    assert worker["dns_sd_configs"][0]["names"] == ["worker"]
    assert f"WORKER_PORT={worker['dns_sd_configs'][0]['port']}" in DOCKERFILE
    host, port = api["static_configs"][0]["targets"][0].split(":")
    assert host in SERVICES
    assert f"API_PORT={port}" in DOCKERFILE


def test_grafana_finds_its_source_and_its_dashboards() -> None:
    folder = DOCKER / "grafana" / "provisioning"
    [source] = plain_yaml.load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    used = {p["datasource"]["uid"] for p in DASHBOARD["panels"] if "datasource" in p}
    assert used == {source["uid"]}
    [provider] = plain_yaml.load((folder / "dashboards" / "feedrank.yml").read_text())["providers"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]


def test_the_dashboard_asks_only_for_metrics_and_labels_that_the_worker_exports() -> None:
    check(expressions())


def test_alerts_ask_only_for_metrics_and_labels_that_the_worker_exports() -> None:
    assert len(alerts()) > 20
    check(alerts())


def check(asked: list[str]) -> None:
    """Every metric in these expressions is exported, with the labels that it is grouped by."""
    names = exported()
    for expression in asked:
        found = re.findall(r"\b(feedrank_\w+|process_\w+)", expression.replace("feedrank-worker", ""))
        assert found, expression
        for name in found:
            assert name.startswith("process_") or name in names, f"{name} in {expression}"
        for grouped in re.findall(r"by \(([^)]*)\)", expression):
            labels = {label.strip() for label in grouped.split(",")} - {"instance"}
            assert labels <= names[found[0]], f"{labels - names[found[0]]} in {expression}"


def test_every_metric_is_fed_by_somebody() -> None:
    own = ROOT / "streams" / "metrics.py"
    others = [
        path for part in ("streams", "topologies") for path in (ROOT / part).rglob("*.py") if path != own
    ]
    elsewhere = "".join(path.read_text() for path in others)
    for name, metric in vars(Metrics()).items():
        if hasattr(metric, "_labelnames"):
            at_home = len(re.findall(rf"self\.{name}\b", own.read_text())) > 1  # once where it is made
            assert at_home or re.search(rf"metrics\.{name}\b", elsewhere), f"nobody feeds {name}"


def test_the_age_of_a_checkpoint_is_that_of_the_newest_commit_of_each_partition() -> None:
    """By `min` an owner of before would make a partition look old that its new one commits."""
    asked = [one for one in [*expressions(), *alerts()] if "checkpoint_timestamp" in one]
    assert len(asked) == 3
    age = "time() - max by (topic, partition) (feedrank_checkpoint_timestamp_seconds)"
    assert all(age in one for one in asked)


def test_label_values_in_the_dashboard_exist() -> None:
    for name, value in re.findall(r'(outcome|stage)="(\w+)"', " ".join(expressions())):
        assert value in {"outcome": OUTCOMES, "stage": STAGES}[name]


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "a: |\n  b", "a: 1\n    b: 2", "a", "- a\nb: 1", "a: 'b'"], ids=repr
)
def test_what_is_not_plain_yaml_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        plain_yaml.load(text)
