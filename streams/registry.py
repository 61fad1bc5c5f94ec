"""A Confluent-compatible schema registry: writers' schemas by id, subjects checked and registered (step 1).

Decoding never waits for the network: an id that is not known yet raises SchemaPending; the caller keeps the
batch (and so stops fetching), waits, and decodes again:

    while True:
        try:
            return decoder.decode(...)
        except SchemaPending as pending:
            await registry.fetch(pending.schema_ids)

An id that the registry says does not exist makes dead letters; a registry that does not answer never does.
"""

from __future__ import annotations

import asyncio
import base64
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from http.client import HTTPException
from typing import Any, TypeVar

import orjson

from streams.codec.schemas import (
    BundledSchemas,
    Kind,
    SchemaMismatch,
    SchemaPending,
    SchemaUnknown,
    WriterSchema,
    aliases_in,
    reader_text,
    with_aliases,
)
from streams.errors import ExitCode, OperatorError
from streams.log import logger
from wire.names import ACTIVITIES, ITEMS

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
UNKNOWN_TTL_S = 60.0
"""An id that does not exist is asked for again after this: it may be registered later."""
BACKOFF_S_MIN, BACKOFF_S_MAX = 0.5, 10.0
REFUSED = (409, 422)
"""Incompatible with an earlier version; not taken as it is (read-only, not valid there)."""
SAID_BYTES_MAX, SAID_CHARACTERS_MAX = 16_384, 600

log = logger(__name__)


T = TypeVar("T")


class RegistryUnreachable(OperatorError):  # noqa: N818
    """The registry does not answer, or not sensibly. Live: wait and try again; the batch is not lost."""

    def __init__(self, message: str) -> None:
        super().__init__(message, ExitCode.BROKER_UNREACHABLE)


class Registry:
    """Writers' schemas of a registry, as `codec.Schemas`. Ids are immutable there and cached here for good.

    `url`: one or several, by commas. `auth`: user:password. `bundled`: id 0, which no registry gives, is the
    bundled schema, as it is where records come from files.
    """

    def __init__(
        self, url: str, auth: str | None = None, timeout_s: float = 5.0, bundled: bool = False
    ) -> None:
        self._bundled = bundled
        self._urls = [one.strip().rstrip("/") for one in url.split(",") if one.strip()]
        self._timeout_s = timeout_s
        self.told: Callable[[str | None], None] = lambda why: None
        """Hears why the registry does not answer, at every try, and None once it does again."""
        self._away = False
        self._headers = {"Accept": CONTENT_TYPE, "Content-Type": CONTENT_TYPE}
        if auth:
            self._headers["Authorization"] = "Basic " + base64.b64encode(auth.encode()).decode()
        self._texts: dict[int, str] = {}
        self._unknown: dict[int, tuple[float, str]] = {}
        self._writers: dict[tuple[int, Kind], WriterSchema | SchemaMismatch] = {}
        self._readers: dict[Kind, str] = {}
        self._versions: dict[str, dict[int, dict[str, Any]]] = {}

    def writer(self, schema_id: int, kind: Kind) -> WriterSchema:
        """From the cache only. Raises SchemaPending, SchemaUnknown or SchemaMismatch."""
        found = self._writers.get((schema_id, kind))
        if found is None:
            found = self._writers[schema_id, kind] = self._resolved(schema_id, kind)
        if isinstance(found, SchemaMismatch):
            raise SchemaMismatch(str(found))
        return found

    def _resolved(self, schema_id: int, kind: Kind) -> WriterSchema | SchemaMismatch:
        if schema_id == 0 and self._bundled:
            return BundledSchemas().writer(schema_id, kind)
        text = self._texts.get(schema_id)
        if text is None:
            until, why = self._unknown.get(schema_id, (0.0, ""))
            if time.monotonic() < until:
                raise SchemaUnknown(why)
            raise SchemaPending(frozenset({schema_id}))
        try:
            return WriterSchema(text, self._readers.get(kind) or reader_text(kind))
        except SchemaMismatch as error:
            return error

    def reader(self, topic: str, kind: Kind) -> str:
        """The bundled schema, and older names of its fields: the aliases of all versions of `<topic>-value`.

        Raises RegistryUnreachable.
        """
        found: dict[str, set[str]] = {}
        for version in self._registered(topic).values():
            for name, older in aliases_in(str(version.get("schema")), kind).items():
                found.setdefault(name, set()).update(older)
        text = with_aliases(kind, found) if found else reader_text(kind)
        if text != self._readers.get(kind, reader_text(kind)):
            self._writers = {one: kept for one, kept in self._writers.items() if one[1] != kind}
        self._readers[kind] = text
        return text

    def _registered(self, topic: str) -> dict[int, dict[str, Any]]:
        """All versions of `<topic>-value`; each is asked for once, as it never changes."""
        subject = f"/subjects/{urllib.parse.quote(f'{topic}-value', safe='')}/versions"
        known = self._versions.setdefault(subject, {})
        numbers = self._ask(subject) or ()
        for number in numbers:
            if number not in known:
                known[number] = self._ask(f"{subject}/{number}") or {}
        return {number: known[number] for number in numbers}

    async def fetch(self, schema_ids: Iterable[int]) -> None:
        """Ask for ids, off the event loop, until the registry answers; `told` hears of an outage."""
        ids, pause_s = sorted(schema_ids), BACKOFF_S_MIN
        while True:
            try:
                await asyncio.to_thread(self.fetch_now, ids)
            except RegistryUnreachable as error:
                if not self._away:
                    log.warning(
                        "the schema registry does not answer; records of new schemas wait, nothing is lost",
                        why=error.message,
                    )
                self._away = True
                self.told(error.message)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, BACKOFF_S_MAX)
                continue
            if self._away:
                log.info("the schema registry answers again")
                self._away = False
                self.told(None)
            return

    def fetch_now(self, schema_ids: Iterable[int]) -> None:
        """Ask once and block (replays, tools); a new schema may come with new aliases.

        Raises RegistryUnreachable.
        """
        schema_ids = list(schema_ids)
        for schema_id in schema_ids:
            answer = self._ask(f"/schemas/ids/{schema_id}")
            if answer is None:
                why = f"the registry {self._urls[0]} has no schema {schema_id}; register it, then requeue"
                self._unknown[schema_id] = time.monotonic() + UNKNOWN_TTL_S, why
            elif answer.get("schemaType", "AVRO") != "AVRO" or answer.get("references"):
                why = f"schema {schema_id} is of another type or has references; write plain Avro"
                self._unknown[schema_id] = time.monotonic() + UNKNOWN_TTL_S, why
            else:
                self._texts[schema_id] = str(answer["schema"])
        if not self._texts.keys().isdisjoint(schema_ids):
            self.reader(ACTIVITIES, "activity")
            self.reader(ITEMS, "item")

    def check_subject(self, topic: str, kind: Kind) -> int:
        """Check that every registered version of `<topic>-value` can be read; the number of versions.

        For the start of a worker. Raises OperatorError that names the versions that can't be read, and
        RegistryUnreachable.
        """
        reader, wrong = self.reader(topic, kind), []
        versions = self._registered(topic)
        for version, schema in versions.items():
            try:
                WriterSchema(str(schema.get("schema")), reader)
            except SchemaMismatch as error:
                wrong.append(f"{topic}-value version {version} (id {schema.get('id')}): {error}")
        if wrong:
            raise OperatorError(
                "; ".join(wrong) + "; register compatible versions, or delete these from the registry",
                ExitCode.TOPICS_WRONG,
            )
        return len(versions)

    def register(self, topic: str, kind: Kind) -> int:
        """The id of the bundled schema under `<topic>-value`, for producers.

        Raises RegistryUnreachable, and OperatorError when the registry refuses the schema.
        """
        subject = f"/subjects/{urllib.parse.quote(f'{topic}-value', safe='')}/versions"
        answer = self._ask(subject, {"schema": reader_text(kind)})
        if answer is None:
            raise RegistryUnreachable(f"the registry {self._urls[0]} has no {subject}; is the URL right?")
        return int(answer["id"])

    def _ask(self, path: str, body: object = None) -> Any:
        """The answer as JSON, None for 404; every URL is tried."""
        why = "no URL; set SCHEMA_REGISTRY_URL"
        for url in self._urls:
            request = urllib.request.Request(
                url + path, orjson.dumps(body) if body is not None else None, self._headers
            )
            try:
                with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:
                    return orjson.loads(answer.read())
            except urllib.error.HTTPError as error:
                with error:
                    if error.code == 404:
                        return None
                    said = _said(error)
                if body is not None and error.code in REFUSED:
                    raise _refused(url + path, said) from error
                why = f"it answers {error.code}: {said}"
            except (OSError, ValueError, HTTPException) as error:  # the last: no HTTP is spoken there
                why = str(getattr(error, "reason", error)).strip() or type(error).__name__
        raise RegistryUnreachable(
            f"schema registry {', '.join(self._urls)}{path}: {why}; "
            "check SCHEMA_REGISTRY_URL, its credentials, and that it is up"
        )


def _said(error: urllib.error.HTTPError) -> str:
    """The registry's own words, of which a long report of every field is cut."""
    answer = error.read(SAID_BYTES_MAX)
    try:
        said = str(orjson.loads(answer)["message"])
    except (ValueError, LookupError, TypeError):
        said = answer.decode(errors="replace").strip()
    return said if len(said) <= SAID_CHARACTERS_MAX else said[:SAID_CHARACTERS_MAX] + "..."


def _refused(where: str, said: str) -> OperatorError:
    return OperatorError(
        f"the schema registry refuses the bundled schema at {where}: {said}; delete the version that it does "
        "not fit, or set a compatibility for this subject that allows both",
        ExitCode.TOPICS_WRONG,
    )


class BlockingSchemas:
    """A registry's schemas for code that may wait: an unknown id is asked for on the spot.

    `writer` raises RegistryUnreachable where a Registry would raise SchemaPending.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def writer(self, schema_id: int, kind: Kind) -> WriterSchema:
        try:
            return self._registry.writer(schema_id, kind)
        except SchemaPending as pending:
            self._registry.fetch_now(pending.schema_ids)
        return self._registry.writer(schema_id, kind)


async def once_told(registry: Registry | None, read: Callable[[], T]) -> T:
    """What `read` gives, once the registry has told the schemas that it asks for."""
    while True:
        try:
            return read()
        except SchemaPending as pending:
            assert registry is not None, "bundled schemas are never pending"
            await registry.fetch(pending.schema_ids)
