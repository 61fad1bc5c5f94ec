"""Settings from the environment: everything accepted or refused at start, with what to do (all steps).

Order of origin: overrides of the caller (the demo, tests), the process environment, the file that
FEEDRANK_SETTINGS_FILE names (KEY=value lines), the default. `feedrank settings` prints all of it.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Literal

from dotenv.parser import Original, parse_stream
from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from streams.concerns import (
    ApiSettings,
    CheckpointSettings,
    Concern,
    KafkaSettings,
    ObservabilitySettings,
    RankingSettings,
    RedisSettings,
    WorkerSettings,
)
from streams.errors import ExitCode, OperatorError
from streams.log import logger
from wire.names import Namespace

SETTINGS_FILE = "FEEDRANK_SETTINGS_FILE"
PREFIX = "FEEDRANK_"
NOT_SETTINGS = frozenset({SETTINGS_FILE, "FEEDRANK_DATA", "FEEDRANK_REQUIRE_SERVICES"})
"""Names that start like settings and are read elsewhere (the file's own name; tests)."""
NAMES_ALIKE, ENDS_ALIKE = 0.8, 0.6
"""Ratios of difflib from which on a name is nearly a setting's: of the whole, and of what words differ."""
MASK = "***"
_SECRET_IN_URL = re.compile(r"(?<=//)([^/@:]*):.+(?=@)|([?&](?:ssl_)?password)=[^&]+")

log = logger(__name__)

Origin = Literal["override", "environment", "file", "default"]

CONCERNS: dict[str, type[Concern]] = {
    "kafka": KafkaSettings,
    "redis": RedisSettings,
    "worker": WorkerSettings,
    "checkpoint": CheckpointSettings,
    "ranking": RankingSettings,
    "api": ApiSettings,
    "observability": ObservabilitySettings,
}


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting as operators see it: `value` never holds a secret."""

    concern: str
    name: str
    value: str
    default: str
    origin: Origin
    meaning: str


@dataclass(frozen=True, slots=True)
class Settings:
    """All concerns, checked, with where each value came from."""

    kafka: KafkaSettings
    redis: RedisSettings
    worker: WorkerSettings
    checkpoint: CheckpointSettings
    ranking: RankingSettings
    api: ApiSettings
    observability: ObservabilitySettings
    origins: Mapping[str, Origin]

    @classmethod
    def load(cls, overrides: Mapping[str, str] | None = None) -> Settings:
        """Read and check everything; `overrides` maps variable names to values and wins.

        Raises OperatorError (usage) that names each wrong variable, where it came from and what to do. Warns
        of variables of the environment that are nearly settings, by name alone: the value may be a secret.
        """
        for name, near in sorted(misspelt(os.environ).items()):
            log.warning(f"{name} is not a setting and not used; did you mean {near}?")
        values, origins = _collect(overrides or {})
        concerns: dict[str, Concern] = {}
        wrong = [_unknown(name, origins[name]) for name in sorted(_strangers(origins))]
        for concern, kind in CONCERNS.items():
            try:
                concerns[concern] = kind(**{n: values[n] for n in _variables(kind) if n in values})
            except ValidationError as error:
                wrong += list(_explain(kind, error, origins))
        if wrong:
            raise OperatorError("\n".join(wrong), ExitCode.USAGE)
        return cls(**concerns, origins=origins)  # type: ignore[arg-type]

    @property
    def names(self) -> Namespace:
        return Namespace(self.worker.namespace)

    def shown(self) -> Iterator[Shown]:
        """Every setting in stated order, secrets masked."""
        for concern, kind in CONCERNS.items():
            part = getattr(self, concern)
            for field, info in kind.model_fields.items():
                name = str(info.validation_alias)
                yield Shown(
                    concern,
                    name,
                    _text(name, getattr(part, field)),
                    _text(name, info.default),
                    self.origins.get(name, "default"),
                    info.description or "",
                )


def _variables(kind: type[Concern]) -> dict[str, FieldInfo]:
    return {str(info.validation_alias): info for info in kind.model_fields.values()}


def known_variables() -> frozenset[str]:
    """The names of all settings."""
    return frozenset(name for kind in CONCERNS.values() for name in _variables(kind))


def misspelt(environment: Mapping[str, str]) -> dict[str, str]:
    """Names that are nearly a setting's and begin with the same word -> that setting.

    They may belong to other software. Names that begin with FEEDRANK_ do not, and are refused elsewhere.

    >>> misspelt({"KAFKA_BOOTSTRAP_SERVER": "x", "KAFKA_HEAP_OPTS": "x", "KAFKA_SSL_CAFILE": "x"})
    {'KAFKA_BOOTSTRAP_SERVER': 'KAFKA_BOOTSTRAP_SERVERS'}
    """
    known = known_variables()
    heads = tuple({f"{name.partition('_')[0]}_" for name in known} - {PREFIX})
    others = [name for name, value in environment.items() if value and name not in known]
    near = {name: _nearest(name, known) for name in others if name.startswith(heads)}
    return {name: setting for name, setting in near.items() if setting}


def _nearest(name: str, known: frozenset[str]) -> str | None:
    head = name.partition("_")[0] + "_"
    family = sorted(one for one in known if one.startswith(head) and _ends_alike(name, one))
    return next(iter(difflib.get_close_matches(name, family, 1, NAMES_ALIKE)), None)


def _ends_alike(name: str, setting: str) -> bool:
    """Whether they are alike from the first word on in which they differ, or `name` has no word there.

    >>> _ends_alike("REDIS_URI", "REDIS_URL"), _ends_alike("REDIS_PORT", "REDIS_URL")
    (True, False)
    """
    ours, theirs = name.split("_"), setting.split("_")
    same = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    if same is None:
        return len(ours) < len(theirs)
    ends = "_".join(ours[same:]), "_".join(theirs[same:])
    return difflib.SequenceMatcher(None, *ends).ratio() >= ENDS_ALIKE


def _collect(overrides: Mapping[str, str]) -> tuple[dict[str, str], dict[str, Origin]]:
    """Values and origins of every setting that is given, and of every FEEDRANK_* name that is not one."""
    known = known_variables()
    origins: dict[str, Origin] = {}
    values: dict[str, str] = {}
    path = overrides.get(SETTINGS_FILE) or os.environ.get(SETTINGS_FILE)
    layers: list[tuple[Origin, Mapping[str, str | None]]] = [
        ("file", _read_file(path) if path else {}),
        ("environment", {n: v for n, v in os.environ.items() if n in known or n.startswith(PREFIX)}),
        ("override", overrides),
    ]
    for origin, layer in layers:
        for name, value in layer.items():
            if value:  # an empty variable is an unset one, as in compose files
                values[name], origins[name] = value, origin
    return values, origins


def _read_file(path: str) -> dict[str, str | None]:
    """The file's lines by name. Raises OperatorError that names each wrong line, not what it says."""
    try:
        if not Path(path).is_file():
            raise OperatorError(
                f"{SETTINGS_FILE}={path}: there is no such file; correct the path or unset it"
            )
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        why = f"it cannot be read ({error.strerror}); correct its rights, or the path"
        raise OperatorError(f"{SETTINGS_FILE}={path}: {why}") from error
    except UnicodeDecodeError as error:
        why = f"it is not UTF-8 text (byte {error.start}); save it as UTF-8"
        raise OperatorError(f"{SETTINGS_FILE}={path}: {why}") from error
    found = list(parse_stream(StringIO(text)))
    wrong = [_line_of(one.original) for one in found if one.error or (one.key and one.value is None)]
    if wrong:
        why = "is not NAME=value; correct it, or begin it with # as a comment"
        raise OperatorError("\n".join(f"{SETTINGS_FILE}={path}: line {number} {why}" for number in wrong))
    return {one.key: one.value for one in found if one.key}


def _line_of(original: Original) -> int:
    """The line from 1 where it begins, after the blank lines that count as part of it."""
    blank = original.string[: len(original.string) - len(original.string.lstrip())]
    return original.line + len(blank.splitlines())


def _strangers(names: Mapping[str, Origin]) -> set[str]:
    return set(names) - known_variables() - NOT_SETTINGS


def _unknown(name: str, origin: Origin) -> str:
    near = difflib.get_close_matches(name, known_variables(), 1, 0.6)
    advice = f"did you mean {near[0]}? Correct it or unset it" if near else "unset it"
    return f"{name} (from the {origin}) is not a setting; {advice} (`feedrank settings` lists all)"


def _explain(kind: type[Concern], error: ValidationError, origins: Mapping[str, Origin]) -> Iterator[str]:
    """One line per wrong variable: name, value (masked where secret), origin, why, what to do."""
    for one in error.errors():
        reason = one["msg"].removeprefix("Value error, ")
        name = str(one["loc"][0]) if one["loc"] else ""
        info = _variables(kind).get(name)
        if info is None:
            yield reason
            continue
        value = MASK if _is_secret(info) or name.endswith("_URL") else repr(one["input"])
        origin = origins.get(name, "default")
        meant = f"Meaning: {info.description}; default {_text(name, info.default)!r}"
        yield f"{name}={value} (from the {origin}): {reason}. {meant}"


def _is_secret(info: FieldInfo) -> bool:
    return "SecretStr" in str(info.annotation)


def _text(name: str, value: object) -> str:
    """A value as operators see it: secrets masked, of a URL only what is secret in it."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if text is None:
        return ""
    if isinstance(text, bool):
        return "true" if text else "false"
    if name.endswith("_URL"):
        return _SECRET_IN_URL.sub(_masked, str(text))
    return MASK if isinstance(value, SecretStr) else str(text)


def _masked(found: re.Match[str]) -> str:
    return f"{found[1]}:{MASK}" if found[1] is not None else f"{found[2]}={MASK}"
