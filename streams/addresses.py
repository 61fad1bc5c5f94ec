"""Whether addresses and PEM files can be what the settings say, before anybody connects (all steps).

What is wrong is told without the address itself: it may hold a password, and a badly escaped one may be
anywhere in it.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import ParseResult, parse_qsl, quote, urlparse

REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
REDIS_OPTIONS = (
    *("db", "username", "password", "protocol", "client_name", "max_connections", "health_check_interval"),
    *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "socket_read_size"),
    *("retry_on_timeout", "ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile"),
    *("ssl_keyfile", "ssl_password", "ssl_check_hostname", "ssl_ciphers", "ssl_min_version"),
)
"""What may follow `?`. Others that redis-py takes (decode_responses) would change what is read."""
ESCAPES = "in a password write / as %2F, # as %23, ? as %3F and @ as %40"
_HIDDEN = "(not shown: it may be part of a password)"


def check_redis(url: str, cluster: bool = False) -> None:
    """Raises ValueError, with what to do, for what redis-py would refuse or misread."""
    if not url.startswith(REDIS_SCHEMES):
        raise ValueError("it must start with redis://, rediss:// or unix://")
    parsed = _parsed(url, "redis://user:password@host:6379/0")
    socket = parsed.scheme == "unix"
    if socket and (parsed.hostname or not parsed.path.strip("/")):
        raise ValueError("it names no socket; write unix:///path/of/the/socket?db=0")
    options = parse_qsl(parsed.query, keep_blank_values=True)
    databases = [value for name, value in options if name == "db"]
    if not socket and parsed.path not in ("", "/"):
        databases.append(parsed.path[1:])
    if not all(_is_number(one) for one in databases):
        raise ValueError(f"its database is not a number; write redis://host:6379/0; {ESCAPES}")
    if cluster and (socket or not parsed.hostname or any(map(int, databases))):
        raise ValueError("it must have the host of a node and, as a Cluster has no other, database 0")
    _check_options(parsed, options, cluster)


def _check_options(parsed: ParseResult, options: list[tuple[str, str]], cluster: bool) -> None:
    for name, value in options:
        if name not in REDIS_OPTIONS:
            named = _HIDDEN if "@" in parsed.query else repr(name)
            raise ValueError(f"its option {named} is none; there are {', '.join(REDIS_OPTIONS)}; {ESCAPES}")
        alone = parsed._replace(query=f"{name}={quote(value, safe='')}").geturl()
        if not _is_taken(alone, cluster):
            kind = "a Redis Cluster" if cluster else f"{parsed.scheme}://"
            raise ValueError(
                f"its option {name} has a wrong value, or is not for {kind}; correct or remove it"
            )


def _is_taken(url: str, cluster: bool) -> bool:
    """Whether redis-py makes a connection of it; nothing is connected."""
    from redis.asyncio import Redis, RedisCluster
    from redis.exceptions import RedisError

    try:
        pool: Any = Redis.from_url(url).connection_pool
        pool.make_connection()
        if cluster:
            RedisCluster.from_url(url)
    except (TypeError, ValueError, OverflowError, RedisError):
        return False
    return True


def check_registry(urls: str) -> None:
    """One or several URLs by commas. Raises ValueError, with what to do."""
    found = [one.strip() for one in urls.split(",") if one.strip()]
    for url in found:
        parsed = _parsed(url, "http://host:8081")
        if parsed.scheme not in ("http", "https") or not parsed.hostname or any(map(str.isspace, url)):
            raise ValueError("it is not http://host:port or https://host:port (several by commas)")
        if "@" in parsed.netloc:
            raise ValueError(
                "it holds a user; put user:password into SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO instead"
            )
        if parsed.query:
            raise ValueError("it goes on after a ?; write http://host:port, with a path where it has one")
    if not found:
        raise ValueError("it names no registry; write http://host:8081")


def check_pem_files(cafile: str | None, certfile: str | None, keyfile: str | None) -> None:
    """Raises ValueError that names the variable of a file that cannot be read or is not what it should be."""
    files = {"KAFKA_SSL_CAFILE": cafile, "KAFKA_SSL_CERTFILE": certfile, "KAFKA_SSL_KEYFILE": keyfile}
    for name, path in files.items():
        if path:
            _check_readable(name, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if cafile:
        try:
            context.load_verify_locations(cafile)
        except OSError as error:
            raise ValueError(f"KAFKA_SSL_CAFILE={cafile} holds no certificate in PEM format") from error
    if keyfile and not certfile:
        raise ValueError("KAFKA_SSL_KEYFILE is set without KAFKA_SSL_CERTFILE; set both or neither")
    if certfile:
        try:
            context.load_cert_chain(certfile, keyfile, password=lambda: "")
        except OSError as error:
            where = f"KAFKA_SSL_CERTFILE={certfile}" + (
                f" and KAFKA_SSL_KEYFILE={keyfile}" if keyfile else ""
            )
            wanted = "a certificate and its key in PEM format, the key without a passphrase"
            raise ValueError(f"{where} are not {wanted}") from error


def _check_readable(name: str, path: str) -> None:
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"{name}={path} cannot be read ({why}); correct the path") from error


def _parsed(url: str, example: str) -> ParseResult:
    try:
        parsed = urlparse(url)
        fits = parsed.port != 0 and not parsed.fragment
    except ValueError:  # its words may hold what looks like the port, and is a password
        fits = False
    if not fits:
        raise ValueError(f"its host or port cannot be read; write {example}; {ESCAPES}")
    return parsed


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9
