"""The settings themselves, one class per concern; a field names its variable and meaning (all steps)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from streams.addresses import check_pem_files, check_redis, check_registry
from streams.errors import OperatorError
from wire.names import Namespace


def _env(name: str, default: Any, meaning: str, **limits: Any) -> Any:
    """A field that is read from the variable `name`; `meaning` is what operators read."""
    return Field(default, validation_alias=name, description=meaning, **limits)


class Concern(BaseSettings):
    """One concern's settings: read by variable name, frozen, an empty variable unset."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, case_sensitive=True, validate_default=True
    )


class KafkaSettings(Concern):
    """How to reach Kafka and the schema registry, and how to sit in the group."""

    bootstrap_servers: str = _env(
        "KAFKA_BOOTSTRAP_SERVERS", "localhost:9092", "host:port of one or more brokers, by commas"
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = _env(
        "KAFKA_SECURITY_PROTOCOL", "PLAINTEXT", "how to talk to the brokers"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = _env(
        "KAFKA_SASL_MECHANISM", "SCRAM-SHA-512", "used where the protocol is SASL_*"
    )
    sasl_username: str | None = _env("KAFKA_SASL_USERNAME", None, "user name for SASL_*")
    sasl_password: SecretStr | None = _env("KAFKA_SASL_PASSWORD", None, "password for SASL_*")
    ssl_cafile: str | None = _env("KAFKA_SSL_CAFILE", None, "PEM file with the brokers' authority")
    ssl_certfile: str | None = _env("KAFKA_SSL_CERTFILE", None, "PEM file with the client's certificate")
    ssl_keyfile: str | None = _env("KAFKA_SSL_KEYFILE", None, "PEM file with the client's key")
    embedded: bool = _env(
        "FEEDRANK_EMBEDDED",
        False,
        "the broker is librdkafka's mock: no topic creation, no compaction, no fencing",
    )
    schema_registry_url: str | None = _env(
        "SCHEMA_REGISTRY_URL",
        None,
        "Confluent-compatible registry; none: schema id 0 is the bundled schema",
        repr=False,  # it may hold a password
    )
    schema_registry_auth: SecretStr | None = _env(
        "SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO", None, "user:password for the schema registry"
    )
    group_instance_id: str | None = _env(
        "GROUP_INSTANCE_ID", None, "static membership: a stable name per worker, so a restart moves nothing"
    )
    session_timeout_ms: int = _env(
        "SESSION_TIMEOUT_MS",
        10_000,
        "a worker silent for this long loses its partitions",
        ge=1_000,
        le=600_000,
    )
    request_timeout_ms: int = _env(
        "REQUEST_TIMEOUT_MS", 30_000, "deadline of one request to a broker", ge=1_000, le=600_000
    )
    fetch_bytes_max: int = _env(
        "FETCH_BYTES_MAX", 4 << 20, "bytes of one partition in one fetch", ge=1 << 16, le=64 << 20
    )

    @field_validator("bootstrap_servers")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        for server in value.split(","):
            host, _, port = server.strip().rpartition(":")
            if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65_536:
                raise ValueError(f"{server.strip()!r} is not host:port; write for example localhost:9092")
        return value

    @field_validator("schema_registry_url")
    @classmethod
    def _registry(cls, value: str | None) -> str | None:
        if value is not None:
            check_registry(value)
        return value

    @model_validator(mode="after")
    def _pem_files_are_some(self) -> KafkaSettings:
        if self.security_protocol.endswith("SSL"):
            check_pem_files(self.ssl_cafile, self.ssl_certfile, self.ssl_keyfile)
        return self

    @model_validator(mode="after")
    def _sasl_is_whole(self) -> KafkaSettings:
        if self.security_protocol.startswith("SASL") and not (self.sasl_username and self.sasl_password):
            raise ValueError(
                f"KAFKA_SECURITY_PROTOCOL is {self.security_protocol} without a name and a password; "
                "set KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
            )
        if self.request_timeout_ms < self.session_timeout_ms:
            raise ValueError("REQUEST_TIMEOUT_MS is below SESSION_TIMEOUT_MS; raise it or lower the other")
        return self

    @property
    def servers(self) -> list[str]:
        return [server.strip() for server in self.bootstrap_servers.split(",")]

    def confluent(self) -> dict[str, Any]:
        """Connection properties for confluent-kafka's clients."""
        found: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": self.security_protocol,
            "ssl.ca.location": self.ssl_cafile,
            "ssl.certificate.location": self.ssl_certfile,
            "ssl.key.location": self.ssl_keyfile,
        }
        if self.security_protocol.startswith("SASL") and self.sasl_password:
            found |= {
                "sasl.mechanism": self.sasl_mechanism,
                "sasl.username": self.sasl_username,
                "sasl.password": self.sasl_password.get_secret_value(),
            }
        return {name: value for name, value in found.items() if value is not None}

    def aiokafka(self) -> dict[str, Any]:
        """Connection arguments for aiokafka's clients. Raises OperatorError for a wrong PEM file."""
        found: dict[str, Any] = {
            "bootstrap_servers": self.servers,
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.endswith("SSL"):
            from aiokafka.helpers import create_ssl_context

            try:
                found["ssl_context"] = create_ssl_context(
                    cafile=self.ssl_cafile, certfile=self.ssl_certfile, keyfile=self.ssl_keyfile
                )
            except OSError as error:
                raise OperatorError(f"KAFKA_SSL_*: {error}; check the three PEM files") from error
        if self.security_protocol.startswith("SASL") and self.sasl_password:
            found |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password.get_secret_value(),
            }
        return found


class RedisSettings(Concern):
    """Where finished feeds go."""

    url: SecretStr = _env(
        "REDIS_URL", "redis://localhost:6379/0", "redis://, rediss:// or unix:// of the server with the feeds"
    )
    cluster: bool = _env("REDIS_CLUSTER", False, "the URL is a node of a Redis Cluster")
    timeout_ms: int = _env("REDIS_TIMEOUT_MS", 2_000, "deadline of one round trip", ge=50, le=60_000)
    feed_ttl_s: int = _env("FEED_TTL_S", 7 * 86_400, "a feed that is not renewed goes after this", ge=60)

    @field_validator("url")
    @classmethod
    def _address(cls, value: SecretStr) -> SecretStr:
        check_redis(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def _is_of_a_cluster(self) -> RedisSettings:
        if self.cluster:
            try:
                check_redis(self.address, cluster=True)
            except ValueError as error:
                raise ValueError(f"REDIS_URL, with REDIS_CLUSTER set: {error}") from error
        return self

    @property
    def address(self) -> str:
        """The URL in the clear, for the client only."""
        return self.url.get_secret_value()


class WorkerSettings(Concern):
    """What this worker is, where it keeps state, how much it takes at once."""

    namespace: str = _env("FEEDRANK_NAMESPACE", "live", "in every internal topic, group, directory and key")
    data_dir: Path = _env("FEEDRANK_DATA_DIR", Path("run/data"), "directory for RocksDB; one worker each")
    format: Literal["avro", "json"] = _env("FEEDRANK_FORMAT", "avro", "values of activities and items")
    policy: Path | None = _env("FEEDRANK_POLICY", None, "policy file (TOML); none: the bundled one")
    clock: Literal["wall", "stream"] = _env(
        "FEEDRANK_CLOCK", "wall", "as_of once caught up: wall clock, or stream time (old data, replays)"
    )
    ingest_records_max: int = _env(
        "INGEST_RECORDS_MAX", 5_000, "most records applied in one hold of the loop", ge=1, le=100_000
    )
    replay_records_max: int = _env(
        "REPLAY_RECORDS_MAX",
        20_000,
        "records applied at once by a replay, which has no loop to keep free",
        ge=1,
        le=1_000_000,
    )
    arena_rows_max: int = _env(
        "ARENA_ROWS_MAX", 200_000, "user rows in memory per partition; more live in RocksDB", ge=1_000
    )
    loop_hold_ms_max: int = _env(
        "LOOP_HOLD_MS_MAX",
        10,
        "slices shrink to hold the event loop for less; more is counted, logged",
        ge=1,
        le=10_000,
    )
    standby: bool = _env(
        "FEEDRANK_STANDBY", False, "keep copies on disk of the shards of other workers, for a fast takeover"
    )
    stall_s: int = _env(
        "STALL_S", 60, "nothing moves for this long while lag grows: the watchdog ends the worker", ge=5
    )
    stop_ms: int = _env("STOP_MS", 8_000, "time to drain at SIGTERM; then abandon", ge=100, le=60_000)
    host: str = _env(
        "WORKER_HOST", "127.0.0.1", "address of /livez, /readyz, /metrics; 0.0.0.0 in containers"
    )
    port: int = _env(
        "WORKER_PORT", 8081, "port of /livez, /readyz, /metrics; 0: any free one", ge=0, le=65_535
    )

    @property
    def policy_folder(self) -> Path:
        """What models are named relative to: the folder of the policy file, or where the worker runs."""
        return Path() if self.policy is None else self.policy.parent

    @field_validator("namespace")
    @classmethod
    def _namespace(cls, value: str) -> str:
        return Namespace(value).name


class CheckpointSettings(Concern):
    """How often state becomes durable."""

    interval_ms: int = _env("CHECKPOINT_MS", 1_000, "time between checkpoints of a shard", ge=10, le=60_000)
    rocks_flush_ms: int = _env(
        "ROCKS_FLUSH_MS", 10_000, "committed rows reach RocksDB within this", ge=10, le=3_600_000
    )
    transaction_timeout_ms: int = _env(
        "TRANSACTION_TIMEOUT_MS", 10_000, "the broker aborts a checkpoint's transaction after this", ge=1_000
    )


class RankingSettings(Concern):
    """How much is ranked, and when item statistics move on."""

    users_max: int = _env("RANK_USERS_MAX", 64, "users ranked at once, in one turn", ge=1, le=64)
    budget_per_s: int = _env("RANK_BUDGET_PER_S", 2_000, "feeds ranked per second and worker", ge=1)
    tick_s: int = _env(
        "TICK_S", 10, "stream time between two publications of item statistics", ge=1, le=3_600
    )
    tick_grace_ms: int = _env(
        "TICK_GRACE_MS", 5_000, "a tick closes without senders that are silent for this long", ge=0
    )
    items_live_max: int = _env("ITEMS_LIVE_MAX", 1_000_000, "live items; the oldest leave first", ge=1_000)


class ApiSettings(Concern):
    """The reference HTTP API."""

    host: str = _env("API_HOST", "127.0.0.1", "address of the API; 0.0.0.0 in containers")
    port: int = _env("API_PORT", 8080, "port of the API; 0: any free one", ge=0, le=65_535)


class ObservabilitySettings(Concern):
    """Logs and their labels."""

    log_level: Literal["debug", "info", "warning", "error"] = _env(
        "FEEDRANK_LOG_LEVEL", "info", "debug also shows user ids and tracebacks"
    )
    log_format: Literal["text", "json"] = _env("FEEDRANK_LOG_FORMAT", "text", "key=value text, or JSON lines")
    service_name: str = _env("OTEL_SERVICE_NAME", "feedrank", "`service` in logs and metrics")
    resource_attributes: str = _env("OTEL_RESOURCE_ATTRIBUTES", "", "key=value,key=value added to JSON logs")
