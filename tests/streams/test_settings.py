"""Settings: where values come from, what is refused and how, what is never shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streams.errors import ExitCode, OperatorError
from streams.settings import CONCERNS, Settings, known_variables, misspelt


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name in known_variables() or name.startswith("FEEDRANK_"):
            monkeypatch.delenv(name)


def refusal(**variables: str) -> str:
    with pytest.raises(OperatorError) as caught:
        Settings.load(variables)
    assert caught.value.exit_code == ExitCode.USAGE
    return caught.value.message


def shown(settings: Settings, name: str) -> tuple[str, str]:
    return next((s.value, s.origin) for s in settings.shown() if s.name == name)


def test_without_anything_the_defaults_hold() -> None:
    settings = Settings.load()
    assert settings.checkpoint.interval_ms == 1_000
    assert settings.worker.format == "avro"
    assert {s.origin for s in settings.shown()} == {"default"}
    assert settings.names.group == "feedrank.live"


def test_the_nearer_origin_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "worker.env"
    file.write_text("# a comment\nTICK_S=20\nCHECKPOINT_MS=2000\nROCKS_FLUSH_MS=3000\n")
    monkeypatch.setenv("FEEDRANK_SETTINGS_FILE", str(file))
    monkeypatch.setenv("TICK_S", "30")
    monkeypatch.setenv("CHECKPOINT_MS", "4000")
    settings = Settings.load({"CHECKPOINT_MS": "5000"})
    assert shown(settings, "ROCKS_FLUSH_MS") == ("3000", "file")
    assert shown(settings, "TICK_S") == ("30", "environment")
    assert shown(settings, "CHECKPOINT_MS") == ("5000", "override")
    assert (settings.checkpoint.rocks_flush_ms, settings.ranking.tick_s) == (3_000, 30)


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICK_S", "")
    monkeypatch.setenv("SCHEMA_REGISTRY_URL", "")
    settings = Settings.load()
    assert settings.ranking.tick_s == 10
    assert settings.kafka.schema_registry_url is None


def test_a_settings_file_that_is_not_there_is_refused() -> None:
    assert "there is no such file" in refusal(FEEDRANK_SETTINGS_FILE="/nowhere/x.env")


def test_a_settings_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "worker.env"
    file.write_bytes(b"TICK_S=20\n# f\xfcr\n")
    assert "it is not UTF-8 text (byte 13)" in refusal(FEEDRANK_SETTINGS_FILE=str(file))


@pytest.mark.parametrize(
    "line", ["WORKER_PORT: 99", "[kafka]", "foo", "export TICK_S", "KAFKA_SASL_PASSWORD hunter2", 'TICK_S="2']
)
def test_a_line_of_the_settings_file_that_is_none_is_refused_and_not_shown(tmp_path: Path, line: str) -> None:
    file = tmp_path / "worker.env"
    file.write_text(f"# a comment\n\nexport API_PORT=1234 # another\n\n{line}\n\n  \nTICK_S=7\n")
    said = refusal(FEEDRANK_SETTINGS_FILE=str(file))
    assert said.startswith(f"FEEDRANK_SETTINGS_FILE={file}: line 5 is not NAME=value; ")
    assert len(said.splitlines()) == 1
    assert "hunter2" not in said


def test_exports_quotes_and_comments_are_lines_of_a_settings_file(tmp_path: Path) -> None:
    file = tmp_path / "worker.env"
    file.write_text("\ufeff# a comment\n\nexport API_PORT=1234 # another\nOTEL_SERVICE_NAME='a b'\nTICK_S=\n")
    settings = Settings.load({"FEEDRANK_SETTINGS_FILE": str(file)})
    assert (settings.api.port, settings.observability.service_name) == (1_234, "a b")
    assert settings.ranking.tick_s == 10


def test_a_stranger_in_the_settings_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "worker.env"
    file.write_text("TICKS_S=20\n")
    said = refusal(FEEDRANK_SETTINGS_FILE=str(file))
    assert "TICKS_S (from the file) is not a setting; did you mean TICK_S?" in said


def test_an_unknown_feedrank_variable_is_a_typo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEEDRANK_NAMESPAC", "blue")
    assert "did you mean FEEDRANK_NAMESPACE?" in refusal()


def test_variables_of_other_programs_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_HEAP_OPTS", "-Xmx1G")
    monkeypatch.setenv("FEEDRANK_REQUIRE_SERVICES", "1")
    Settings.load()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("KAFKA_BOOTSTRAP_SERVER", "KAFKA_BOOTSTRAP_SERVERS"),
        ("KAFKA_SSL_CA_FILE", "KAFKA_SSL_CAFILE"),
        ("KAFKA_SASL_PASSWROD", "KAFKA_SASL_PASSWORD"),
        ("KAFKA_SASL_USER", "KAFKA_SASL_USERNAME"),
        ("REDIS_URI", "REDIS_URL"),
        ("REDIS_TIMEOUT", "REDIS_TIMEOUT_MS"),
        ("API_PROT", "API_PORT"),
        ("WORKER_HOSTS", "WORKER_HOST"),
        ("SCHEMA_REGISTRY", "SCHEMA_REGISTRY_URL"),
        ("TICK_MS", "TICK_S"),
    ],
)
def test_a_name_that_is_nearly_a_setting_is_told_without_its_value(
    name: str, meant: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(name, "hunter2")
    Settings.load()
    [line] = caplog.records
    assert (line.levelname, line.message) == (
        "WARNING",
        f"{name} is not a setting and not used; did you mean {meant}?",
    )
    assert "hunter2" not in str(vars(line))


OTHERS = (
    *(
        "KAFKA_HEAP_OPTS",
        "KAFKA_OPTS",
        "KAFKA_HOME",
        "KAFKA_ADVERTISED_LISTENERS",
        "KAFKA_SSL_KEYSTORE_FILENAME",
    ),
    *("REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD", "REDIS_SERVICE_HOST", "REDIS_CLUSTER_IP"),
    *("SCHEMA_REGISTRY_HOST_NAME", "SCHEMA_REGISTRY_PORT", "SCHEMA_REGISTRY_LISTENERS"),
    *("API_KEY", "API_TOKEN", "API_PORT_8080_TCP", "WORKER_COUNT", "WORKER_PORT_8081_TCP_PROTO"),
    *("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SERVICE_VERSION", "OTEL_TRACES_SAMPLER", "SESSION_MANAGER"),
    *("REQUEST_METHOD", "REQUEST_URI", "GROUP_ID", "GROUPS", "TICK", "PATH", "XKAFKA_BOOTSTRAP_SERVERS"),
)


def test_names_far_from_any_setting_and_settings_themselves_are_no_alarm(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert misspelt(dict.fromkeys([*OTHERS, *known_variables()], "x")) == {}
    assert misspelt({"KAFKA_BOOTSTRAP_SERVER": ""}) == {}
    monkeypatch.setenv("TICK_S", "7")
    Settings.load()
    assert caplog.records == []


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("TICK_S", "soon", "valid integer"),
        ("TICK_S", "0", "greater than or equal to 1"),
        ("RANK_USERS_MAX", "65", "less than or equal to 64"),
        ("FEEDRANK_FORMAT", "xml", "'avro' or 'json'"),
        ("FEEDRANK_NAMESPACE", "Live!", "1 to 32 characters"),
        ("KAFKA_BOOTSTRAP_SERVERS", "localhost", "not host:port"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:9092,b:99999", "'b:99999' is not host:port"),
        ("API_PORT", "70000", "less than or equal to 65535"),
        ("REDIS_URL", "localhost:6379", "must start with redis://"),
        ("FEEDRANK_EMBEDDED", "perhaps", "valid boolean"),
    ],
)
def test_a_wrong_value_is_refused_with_name_origin_reason_and_meaning(
    name: str, value: str, reason: str
) -> None:
    said = refusal(**{name: value})
    assert said.startswith(f"{name}=")
    assert reason in said
    assert "(from the override)" in said
    assert "Meaning: " in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://foo:bar", "its host or port cannot be read"),
        ("redis://foo:0", "its host or port cannot be read"),
        ("redis://[::1", "its host or port cannot be read"),
        ("redis://:hunter2/x@cache", "its host or port cannot be read"),
        ("redis://user:12#hunter2@cache", "its host or port cannot be read"),
        ("redis://user:12?hunter2=1@cache", "its option (not shown: it may be part of a password) is none"),
        ("redis://user:12/hunter2@cache", "its database is not a number"),
        ("redis://cache/abc", "its database is not a number"),
        ("redis://cache/1/2", "its database is not a number"),
        ("redis://cache?db=-1", "its database is not a number"),
        ("redis://cache?socket_timeout=abc", "its option socket_timeout has a wrong value"),
        ("redis://cache?db=0&protocol=9", "its option protocol has a wrong value"),
        ("redis://cache?max_connections=-4", "its option max_connections has a wrong value"),
        ("redis://cache?foo=bar", "its option 'foo' is none"),
        ("redis://cache?decode_responses=true", "its option 'decode_responses' is none"),
        (
            "redis://cache?ssl_ca_certs=ca.pem",
            "its option ssl_ca_certs has a wrong value, or is not for redis",
        ),
        ("unix://run/redis.sock", "it names no socket"),
        ("unix://", "it names no socket"),
    ],
)
def test_a_redis_url_that_the_client_would_refuse_or_misread_is_refused(url: str, reason: str) -> None:
    said = refusal(REDIS_URL=url)
    assert said.startswith(f"REDIS_URL=*** (from the override): {reason}")
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "url",
    [
        *(
            "redis://cache",
            "redis://:h%2Fu%23n@cache:6379/",
            "redis://[::1]:6379/3",
            "redis:///0",
            "redis://c?db=2",
        ),
        *("unix:///run/redis.sock?db=1", "rediss://u:p@c/0?ssl_ca_certs=/a/ca.pem&ssl_cert_reqs=required"),
        "redis://c/1?socket_timeout=0.5&socket_keepalive=yes&protocol=3&client_name=a%26b&max_connections=4",
    ],
)
def test_a_good_redis_url_is_taken_as_it_is(url: str) -> None:
    assert Settings.load({"REDIS_URL": url}).redis.address == url


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://cache/1", "it must have the host of a node"),
        ("unix:///run/redis.sock", "it must have the host of a node"),
        (
            "redis://cache?retry_on_timeout=yes",
            "its option retry_on_timeout has a wrong value, or is not for a",
        ),
    ],
)
def test_what_a_cluster_has_not_is_refused_of_its_url(url: str, reason: str) -> None:
    said = refusal(REDIS_URL=url, REDIS_CLUSTER="true")
    assert said.startswith(f"REDIS_URL, with REDIS_CLUSTER set: {reason}")
    Settings.load({"REDIS_URL": url})
    Settings.load({"REDIS_URL": "rediss://cache:7000/0?ssl_ca_certs=/a/ca.pem", "REDIS_CLUSTER": "true"})


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        *(("foo", "it is not http://host"), ("registry:8081", "it is not http://host"), (",", "it names no")),
        *(("http://", "it is not http://host"), ("http://a b:8081", "it is not http://host")),
        *(("http://a:b", "its host or port cannot"), ("http://a:80,ftp://b", "it is not http://host")),
        *(("http://x:hunter2@a:80", "it holds a user; put"), ("http://a:80?x=1", "it goes on after a ?")),
    ],
)
def test_a_wrong_registry_url_is_refused(url: str, reason: str) -> None:
    said = refusal(SCHEMA_REGISTRY_URL=url)
    assert said.startswith(f"SCHEMA_REGISTRY_URL=*** (from the override): {reason}")
    assert "hunter2" not in said
    Settings.load({"SCHEMA_REGISTRY_URL": "https://a:8081/path/, http://b"})


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"CAFILE": "none"}, "KAFKA_SSL_CAFILE={0}/none cannot be read (No such file or directory)"),
        ({"CAFILE": "no.pem"}, "KAFKA_SSL_CAFILE={0}/no.pem holds no certificate in PEM format"),
        ({"CAFILE": ""}, "KAFKA_SSL_CAFILE={0}/ cannot be read (Is a directory)"),
        (
            {"CERTFILE": "no.pem", "KEYFILE": "no.pem"},
            "KAFKA_SSL_CERTFILE={0}/no.pem and KAFKA_SSL_KEYFILE={0}",
        ),
        ({"CERTFILE": "no.pem", "KEYFILE": "none"}, "KAFKA_SSL_KEYFILE={0}/none cannot be read"),
        ({"KEYFILE": "no.pem"}, "KAFKA_SSL_KEYFILE is set without KAFKA_SSL_CERTFILE"),
    ],
)
def test_wrong_pem_files_are_refused_where_they_are_used(
    files: dict[str, str], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "no.pem").write_text("hunter2\n")
    variables = {f"KAFKA_SSL_{name}": f"{tmp_path}/{file}" for name, file in files.items()}
    said = refusal(KAFKA_SECURITY_PROTOCOL="SSL", **variables)
    assert said.startswith(reason.format(tmp_path))
    Settings.load(variables)


def test_all_wrong_values_are_told_at_once() -> None:
    said = refusal(TICK_S="x", API_PORT="y", FEEDRANK_FORMATT="json")
    assert len(said.splitlines()) == 3


def test_sasl_without_a_password_is_refused() -> None:
    assert "set KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD" in refusal(KAFKA_SECURITY_PROTOCOL="SASL_SSL")


def test_no_secret_is_ever_shown() -> None:
    settings = Settings.load(
        {
            "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "KAFKA_SASL_USERNAME": "worker",
            "KAFKA_SASL_PASSWORD": "http://hunter2",
            "REDIS_URL": "redis://worker:hunter2@cache:6379/1?password=hunter2",
            "SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO": "name:hunter2",
        }
    )
    assert "hunter2" not in str(list(settings.shown()))
    assert "hunter2" not in repr(settings)
    assert shown(settings, "KAFKA_SASL_PASSWORD")[0] == "***"
    assert shown(settings, "REDIS_URL")[0] == "redis://worker:***@cache:6379/1?password=***"
    assert settings.kafka.confluent()["sasl.password"] == "http://hunter2"
    assert settings.kafka.aiokafka()["sasl_plain_password"] == "http://hunter2"


def test_a_refused_secret_is_not_shown_either() -> None:
    assert "hunter2" not in refusal(REDIS_URL="rediss//:hunter2@cache")


def test_connection_properties_are_plain_without_security() -> None:
    kafka = Settings.load({"KAFKA_BOOTSTRAP_SERVERS": "a:1, b:2"}).kafka
    assert kafka.aiokafka() == {"bootstrap_servers": ["a:1", "b:2"], "security_protocol": "PLAINTEXT"}
    assert kafka.confluent() == {"bootstrap.servers": "a:1, b:2", "security.protocol": "PLAINTEXT"}


def test_every_setting_says_what_it_means_and_ends_in_its_unit() -> None:
    units = ("_MS", "_S", "_BYTES", "_MAX", "_PORT")
    for kind in CONCERNS.values():
        for info in kind.model_fields.values():
            assert info.description
            if info.annotation is int:
                assert str(info.validation_alias).endswith(units), info.validation_alias
