"""Avro, one record at a time and strictly: where a record ends, or what is wrong with it (flow step 1).

The judge of records that the native reader refuses, or whose length is not the expected one. It returns no
values; it is slow, and only bad records (and rare encodings) come here.
"""

from __future__ import annotations

from streams.codec.schemas import Node
from streams.dead_letters import Reason

VARINT_BYTES_MAX = 10
_FIXED_BYTES = {"null": 0, "boolean": 1, "float": 4, "double": 8}
_DEPTH_MAX = 64


class Malformed(Exception):  # noqa: N818
    """The bytes are not one record of the schema."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Walk:
    """Walks records of one schema (`schemas.plain` form)."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._named: dict[str, Node] = {}
        self._collect(node, "")

    def check(self, data: bytes) -> None:
        """Raises Malformed unless `data` is exactly one record."""
        end = self._end(self._node, data, 0, "", 0)
        if end != len(data):
            extra = len(data) - end
            raise Malformed(
                Reason.TRAILING_BYTES, f"{extra} bytes follow the record; write one record per message"
            )

    def _collect(self, node: Node, space: str) -> None:
        if isinstance(node, list):
            for branch in node:
                self._collect(branch, space)
        if not isinstance(node, dict):
            return
        space = node.get("namespace", space)
        if "name" in node:
            self._named[node["name"]] = node
            self._named[f"{space}.{node['name']}"] = node
        for inner in (node.get("items"), node.get("values")):
            self._collect(inner, space)
        for field in node.get("fields", ()):
            self._collect(field["type"], space)

    def _end(self, node: Node, data: bytes, at: int, path: str, depth: int) -> int:
        """Where the value of `node` that begins at `at` ends."""
        if depth > _DEPTH_MAX:
            raise Malformed(Reason.WRONG_SCHEMA, f"{path or 'the record'} is nested too deeply")
        if isinstance(node, list):
            branch, at = _long(data, at, path)
            if not 0 <= branch < len(node):
                raise Malformed(
                    Reason.WRONG_SCHEMA, f"{path}: the union has no branch {branch}; is this the schema?"
                )
            return self._end(node[branch], data, at, path, depth + 1)
        kind = node["type"] if isinstance(node, dict) else node
        if kind in _FIXED_BYTES:
            return _within(data, at + _FIXED_BYTES[kind], path)
        if kind in ("int", "long"):
            return _long(data, at, path)[1]
        if kind in ("string", "bytes"):
            return _text(data, at, path, kind == "string")
        return self._complex_end(kind, node, data, at, path, depth)

    def _complex_end(self, kind: str, node: Node, data: bytes, at: int, path: str, depth: int) -> int:
        if kind == "record":
            for field in node["fields"]:
                name = f"{path}.{field['name']}" if path else field["name"]
                at = self._end(field["type"], data, at, name, depth + 1)
            return at
        if kind == "fixed":
            return _within(data, at + node["size"], path)
        if kind == "enum":
            symbol, at = _long(data, at, path)
            if not 0 <= symbol < len(node["symbols"]):
                raise Malformed(Reason.WRONG_SCHEMA, f"{path}: the enum has no symbol {symbol}")
            return at
        if kind in ("array", "map"):
            return self._blocks_end(node, data, at, path, depth)
        return self._end(self._named[kind], data, at, path, depth + 1)

    def _blocks_end(self, node: Node, data: bytes, at: int, path: str, depth: int) -> int:
        inner = node["items"] if node["type"] == "array" else node["values"]
        while True:
            count, at = _long(data, at, path)
            if count == 0:
                return at
            if count < 0:
                _, at = _long(data, at, path)
            if abs(count) > len(data) - at:
                raise Malformed(
                    Reason.TRUNCATED, f"{path} says that {abs(count)} elements follow; write it whole"
                )
            for _ in range(abs(count)):
                if node["type"] == "map":
                    at = _text(data, at, path, True)
                at = self._end(inner, data, at, path, depth + 1)


def _within(data: bytes, end: int, path: str) -> int:
    if end > len(data):
        missing = end - len(data)
        raise Malformed(
            Reason.TRUNCATED, f"the record ends {missing} bytes too early, in {path}; write it whole"
        )
    return end


def _long(data: bytes, at: int, path: str) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise Malformed(Reason.TRUNCATED, f"the record ends in the number {path}; write it whole")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
        if shift >= 7 * VARINT_BYTES_MAX:
            raise Malformed(
                Reason.WRONG_SCHEMA, f"{path} is a number of more than 64 bits; is this the schema?"
            )


def _text(data: bytes, at: int, path: str, utf8: bool) -> int:
    size, at = _long(data, at, path)
    if size < 0:
        raise Malformed(Reason.WRONG_SCHEMA, f"{path} has the length {size}; is this the schema?")
    end = _within(data, at + size, path)
    if utf8:
        try:
            data[at:end].decode("utf-8")
        except UnicodeDecodeError as error:
            raise Malformed(Reason.NOT_UTF8, f"{path} is not UTF-8: {error.reason}; encode it so") from None
    return end
