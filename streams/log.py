"""Structured logs: a sentence and fields, as key=value text or JSON lines (all steps).

    log = logger(__name__)
    log.info("partition recovered", partition=3, rows=120_000)

User ids are personal data: the fields in PERSONAL are written only where the level is debug.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import MutableMapping
from typing import Any, TextIO

from streams.concerns import ObservabilitySettings

PERSONAL = frozenset({"user", "users", "actor", "key"})
QUIET: dict[str, int] = {
    "aiokafka": logging.CRITICAL,  # hundreds of lines a second about a broker that is away
    "faust": logging.WARNING,
    "mode": logging.ERROR,
    "asyncio": logging.WARNING,
    "aiohttp": logging.WARNING,
}
"""Levels for libraries that narrate their inner life; FEEDRANK_LOG_LEVEL=debug opens them to INFO."""
SERVICE_MARK = "[^"
"""How mode's services begin their lines. They come under the name of the module that the class stands in,
which may be one of ours, so that a level per logger does not reach them."""
_PLAIN = ("exc_info", "stack_info", "stacklevel", "extra")

LEFT_BEHIND = "aiokafka"
"""In asyncio's complaints: clients that were being made or stopped when they had to go. Harmless."""


class Log(logging.LoggerAdapter[logging.Logger]):
    """A logger whose keyword arguments become fields of the line."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        plain = {name: kwargs[name] for name in _PLAIN if name in kwargs}
        fields = {name: value for name, value in kwargs.items() if name not in _PLAIN}
        plain["extra"] = {**(plain.get("extra") or {}), "fields": fields}
        return msg, plain


def logger(name: str) -> Log:
    """The structured logger of a module."""
    return Log(logging.getLogger(name), {})


class LineFormatter(logging.Formatter):
    """One line per record: text (`time level name: message key=value`) or JSON."""

    def __init__(self, as_json: bool, personal: bool, labels: dict[str, str]) -> None:
        super().__init__()
        self._as_json, self._personal, self._labels = as_json, personal, labels

    def format(self, record: logging.LogRecord) -> str:
        given: dict[str, Any] = getattr(record, "fields", {})
        fields = {n: v for n, v in given.items() if self._personal or n not in PERSONAL}
        if record.exc_info and record.exc_info[0] and "error" not in fields:
            fields["error"] = f"{record.exc_info[0].__name__}: {record.exc_info[1]}"
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        trace = self.formatException(record.exc_info) if self._personal and record.exc_info else None
        if self._as_json:
            line = {"time": at, "level": record.levelname.lower(), "logger": record.name}
            line |= {"message": record.getMessage(), **self._labels, **fields}
            return json.dumps(line | ({"trace": trace} if trace else {}), default=str, ensure_ascii=False)
        shown = "".join(f" {name}={_quoted(value)}" for name, value in fields.items())
        text = f"{at} {record.levelname.lower():7} {record.name}: {record.getMessage()}{shown}"
        return text.replace("\n", "\\n") + (f"\n{trace}" if trace else "")


def _told(record: logging.LogRecord) -> bool:
    """False for what services tell of themselves, unless it is an exception, and of what they left behind."""
    narrated = str(record.msg).startswith(SERVICE_MARK) and not record.exc_info
    if record.name != "asyncio":
        return not narrated
    raised = getattr((record.exc_info or [None])[0], "__module__", "")
    return LEFT_BEHIND not in f"{record.getMessage()} {raised}".lower()


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or " " in text or '"' in text else text


def setup(settings: ObservabilitySettings, stream: TextIO | None = None) -> None:
    """Make the root logger write lines to `stream` (None: stderr).

    Idempotent: Faust's runner leaves the root at DEBUG with handlers of its own, so `topologies.app` calls
    this again after it.
    """
    debug = settings.log_level == "debug"
    handler = logging.StreamHandler(stream or sys.stderr)
    labels = {"service": settings.service_name, **_attributes(settings.resource_attributes)}
    handler.setFormatter(LineFormatter(settings.log_format == "json", debug, labels))
    if not debug:
        handler.addFilter(_told)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(logging.INFO if debug else level)


def _attributes(text: str) -> dict[str, str]:
    pairs = (pair.split("=", 1) for pair in text.split(",") if "=" in pair)
    return {name.strip(): value.strip() for name, value in pairs}
