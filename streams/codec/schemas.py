"""Avro schemas: the bundled readers, and where writers' schemas come from (flow steps 1 and 5)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, Protocol

import pyarrow as pa
import pyruhvro
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.errors import AvroException
from avro.schema import parse as parse_avro

from streams.codec.envelope import row_columns, row_schema

Kind = Literal["activity", "item"]
Node = Any
"""A parsed Avro schema as JSON: a type's name, a list (union) or an object."""

HEADER_BYTES = 5
"""Confluent's wire format: a zero byte and the schema id (4 bytes, big-endian) before the record."""
MAGIC_FIELD, ID_FIELD = "__magic", "__schema_id"
AS_LONG = {"int": "long"}
AS_NATIVE = {**AS_LONG, "bytes": "string"}
"""What pyruhvro cannot read, as what is encoded alike (it does not look at UTF-8)."""
DEBEZIUM_MS = "io.debezium.time.Timestamp"
PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})


class SchemaPending(Exception):  # noqa: N818
    """The registry has not answered for these ids yet: keep the batch, fetch them, decode again."""

    def __init__(self, schema_ids: frozenset[int]) -> None:
        ids = ", ".join(map(str, sorted(schema_ids)))
        super().__init__(f"schema {ids} is not known yet; `await registry.fetch(ids)`, then decode again")
        self.schema_ids = schema_ids


class SchemaUnknown(Exception):  # noqa: N818
    """There is no schema with this id: its records are dead letters."""


class SchemaMismatch(Exception):  # noqa: N818
    """What this schema writes cannot be read as feedrank's: its records are dead letters."""


class Schemas(Protocol):
    """Where writers' schemas come from."""

    def writer(self, schema_id: int, kind: Kind) -> WriterSchema:
        """Never blocks. Raises SchemaPending, SchemaUnknown or SchemaMismatch."""
        ...


class BundledSchemas:
    """Without a registry: schema id 0 is the bundled schema, and there are no others."""

    def writer(self, schema_id: int, kind: Kind) -> WriterSchema:
        if schema_id:
            raise SchemaUnknown(
                f"schema id {schema_id}, but no registry is set; set SCHEMA_REGISTRY_URL, "
                "or write id 0 and the bundled schema"
            )
        return _bundled_writer(kind)


@cache
def reader_text(kind: Kind) -> str:
    """The bundled schema of one kind, as JSON text."""
    return resources.files("wire").joinpath("schemas", f"{kind}.avsc").read_text("utf-8")


def aliases_in(schema: str, kind: Kind) -> dict[str, set[str]]:
    """The older names of a kind's fields that a schema tells of, by their names of today; of what is no
    schema none."""
    names = {field["name"] for field in json.loads(reader_text(kind))["fields"]}
    try:
        fields = _loads(schema).get("fields", ())
    except SchemaMismatch:
        return {}
    told = {f["name"]: f["aliases"] for f in fields if isinstance(f, dict) and {"name", "aliases"} <= set(f)}
    return {
        name: {one for one in told[name] if isinstance(one, str) and one.isidentifier()} - names
        for name in names
        if isinstance(told.get(name), list)
    }


def with_aliases(kind: Kind, aliases: Mapping[str, Set[str]]) -> str:
    """The bundled schema in which fields say how they were called before."""
    node = json.loads(reader_text(kind))
    fields = [
        field | ({"aliases": sorted(aliases[field["name"]])} if aliases.get(field["name"]) else {})
        for field in node["fields"]
    ]
    return json.dumps(node | {"fields": fields})


@cache
def _bundled_writer(kind: Kind) -> WriterSchema:
    return WriterSchema(reader_text(kind), reader_text(kind))


@cache
def arrow_schema(reader: str) -> pa.Schema:
    """The columns that a reader's schema is decoded to: as pyruhvro has them, all of them nullable."""
    found = pyruhvro.avro_to_arrow_schema(json.dumps(plain(json.loads(reader))))
    return pa.schema([pa.field(f.name, f.type) for f in found])


@dataclass(frozen=True, slots=True)
class _Column:
    """One reader field: where its values are in the writer's columns, or its default."""

    name: str
    type: pa.DataType
    source: str | None
    default: object


class WriterSchema:
    """A writer's schema with the plan that turns its columns into the reader's.

    Raises SchemaMismatch when the two do not resolve by Avro's rules (added with default, renamed by alias,
    removed, promoted), or the native reader does not know a type.
    """

    def __init__(self, writer: str, reader: str) -> None:
        wanted, written = json.loads(reader), _loads(writer)
        row = row_schema(written, wanted)
        self._enveloped = row is not None
        check_compatible(row or written, wanted)
        self.node: Node = plain(written)
        native = _framed(plain(written, AS_NATIVE))
        self.native = json.dumps(native)
        self.measured: Node = _inlined(native, {})
        _check_readable(self.native)
        names = {field["name"] for field in (row or self.node)["fields"]}
        self._plan = _plan(wanted, names | {"deleted"} if row else names, arrow_schema(reader))

    def resolve(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The writer's columns as the reader's. Raises pa.ArrowInvalid where a value does not convert."""
        if self._enveloped:
            batch = row_columns(batch)
        columns = [_column(batch, one) for one in self._plan]
        return pa.RecordBatch.from_arrays(columns, names=[one.name for one in self._plan])


def _check_readable(native: str) -> None:
    """Raises SchemaMismatch for what pyruhvro 0.4 cannot decode: it would panic at the first record."""
    if '"type": "fixed"' in native:
        raise SchemaMismatch("feedrank's Avro reader does not know `fixed`; write bytes instead")
    try:
        pyruhvro.avro_to_arrow_schema(native)
    except BaseException as error:
        if not is_native_failure(error):
            raise
        raise SchemaMismatch(f"feedrank's Avro reader does not know this schema: {error}") from error


def is_native_failure(error: BaseException) -> bool:
    """A refusal or a panic (a BaseException that pyo3 does not export) of the native reader."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _framed(node: Node) -> Node:
    """The record with the wire format's header in front, so that no value is sliced in Python.

    A zero byte is Avro's long 0, and any four bytes are a float, which the reader only moves.
    """
    header = [{"name": MAGIC_FIELD, "type": "long"}, {"name": ID_FIELD, "type": "float"}]
    return {**node, "fields": [*header, *node["fields"]]}


def _column(batch: pa.RecordBatch, wanted: _Column) -> pa.Array:
    if wanted.source is None:
        return pa.array([wanted.default] * len(batch), wanted.type)
    found = batch.column(wanted.source)
    return found if found.type == wanted.type else found.cast(wanted.type)


def _plan(reader: Node, written: set[str], columns: pa.Schema) -> list[_Column]:
    plan = []
    for field in reader["fields"]:
        names = [field["name"], *field.get("aliases", ())]
        source = next((n for n in names if n in written), None)
        kind = columns.field(field["name"]).type
        plan.append(_Column(field["name"], kind, source, field.get("default")))
    return plan


def _loads(text: str) -> Node:
    try:
        node = json.loads(text)
    except ValueError as error:
        raise SchemaMismatch(f"not JSON: {error}; register a correct schema") from error
    if not isinstance(node, dict) or node.get("type") != "record":
        raise SchemaMismatch("not a record; register the bundled schema or one that resolves to it")
    return node


def check_compatible(writer: Node, reader: Node) -> None:
    """Raises SchemaMismatch, saying where, when `reader` cannot read what `writer` writes."""
    try:
        one, other = parse_avro(json.dumps(reader)), parse_avro(json.dumps(writer))
    except (AvroException, KeyError, TypeError, ValueError) as error:
        raise SchemaMismatch(f"not an Avro schema: {error}; register a correct one") from error
    found = ReaderWriterCompatibilityChecker().get_compatibility(one, other)
    if found.compatibility is not SchemaCompatibilityType.compatible:
        places = ", ".join(sorted(found.locations))
        why = "; ".join(sorted(found.messages))
        raise SchemaMismatch(f"does not resolve to the bundled schema at {places}: {why}")
    _check_units(writer, reader)


def _check_units(writer: Node, reader: Node) -> None:
    """Avro lets microseconds pass for milliseconds; a wrong unit would put every event in another century."""
    written = {f["name"]: _logical(f["type"]) for f in writer.get("fields", ())}
    for field in reader["fields"]:
        expected = _logical(field["type"])
        for name in (field["name"], *field.get("aliases", ())):
            if expected and written.get(name, expected) not in (None, expected):
                raise SchemaMismatch(f"{name} is written as {written[name]}; write {expected}")


def _logical(node: Node) -> str | None:
    if isinstance(node, list):
        return next((found for found in map(_logical, node) if found), None)
    if not isinstance(node, dict):
        return None
    found = node.get("logicalType", node.get("connect.name"))
    return None if found == DEBEZIUM_MS else found


def _inlined(node: Node, named: dict[str, Node]) -> Node:
    """The schema with each name replaced by the record that it stands for (a record's own stays)."""
    if isinstance(node, list):
        return [_inlined(branch, named) for branch in node]
    if isinstance(node, str):
        return named.get(node.rpartition(".")[2], node)
    found = dict(node)
    for inner in ("items", "values"):
        if inner in found:
            found[inner] = _inlined(found[inner], named)
    if "fields" in found:
        found["fields"] = [{**f, "type": _inlined(f["type"], named)} for f in found["fields"]]
        named[found["name"].rpartition(".")[2]] = found
    return found


def plain(node: Node, renamed: Mapping[str, str] = AS_LONG) -> Node:
    """The same encoding without logical types, and with long for int, which is encoded alike.

    The native reader would otherwise cut a number of more than 32 bits without a word.
    """
    if isinstance(node, list):
        return [plain(branch, renamed) for branch in node]
    if isinstance(node, str):
        return renamed.get(node, node)
    kind = node["type"]
    if isinstance(kind, (dict, list)) or kind in PRIMITIVES:
        return plain(kind, renamed)
    kept = {k: v for k, v in node.items() if k not in ("logicalType", "doc", "default", "aliases")}
    for inner in ("items", "values"):
        if inner in kept:
            kept[inner] = plain(kept[inner], renamed)
    if "fields" in kept:
        kept["fields"] = [{"name": f["name"], "type": plain(f["type"], renamed)} for f in kept["fields"]]
    return kept
