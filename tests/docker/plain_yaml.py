"""Reads the plain part of YAML that docker/ keeps to, so that its tests need no further package.

Maps and lists by indentation, scalars, flow lists on a line, `&anchor`, `*alias`, `<<`; all else is refused.
"""

from __future__ import annotations

import json
import re
from typing import Any

KEY = re.compile(r"(?P<key>[\w.<-]+):(?:\s+(?P<rest>.*))?\Z")


class PlainYaml:
    """One document."""

    def __init__(self, text: str) -> None:
        kept = (line.rstrip() for line in text.splitlines())
        plain = [line for line in kept if line and not line.lstrip().startswith("#")]
        self.lines = [(len(line) - len(line.lstrip()), line.lstrip()) for line in plain]
        self.at = 0
        self.anchors: dict[str, Any] = {}

    def load(self) -> Any:
        """The document as dicts, lists and scalars. Raises ValueError for what is not plain."""
        found = self._block(0)
        if self.at != len(self.lines):
            raise ValueError(f"unexpected indentation: {self.lines[self.at]}")
        return found

    def _block(self, indent: int) -> Any:
        return self._list(indent) if self.lines[self.at][1].startswith("- ") else self._map(indent, {})

    def _list(self, indent: int) -> list[Any]:
        found = []
        while self.at < len(self.lines) and self.lines[self.at][0] == indent:
            text = self.lines[self.at][1]
            if not text.startswith("- "):
                raise ValueError(f"a list goes on with {text!r}")
            item = text[2:]
            if KEY.match(item):
                self.lines[self.at] = (indent + 2, item)
                found.append(self._map(indent + 2, {}))
            else:
                self.at += 1
                found.append(self._scalar(item))
        return found

    def _map(self, indent: int, found: dict[str, Any]) -> dict[str, Any]:
        while self.at < len(self.lines) and self.lines[self.at][0] == indent:
            text = self.lines[self.at][1]
            matched = KEY.match(text)
            if matched is None:
                raise ValueError(f"not `key: value`: {text!r}")
            key, rest = matched["key"], matched["rest"] or ""
            if key in found:
                raise ValueError(f"the key {key} is there twice")
            self.at += 1
            value = self._value(indent, rest)
            found[key] = value
        merged: dict[str, Any] = found.pop("<<", {})
        return merged | found

    def _value(self, indent: int, rest: str) -> Any:
        anchor = re.fullmatch(r"&(\w+)", rest)
        if anchor or not rest:
            nested = self.at < len(self.lines) and self.lines[self.at][0] > indent
            value = self._block(self.lines[self.at][0]) if nested else None
            if anchor:
                self.anchors[anchor[1]] = value
            return value
        return self.anchors[rest[1:]] if rest.startswith("*") else self._scalar(rest)

    @staticmethod
    def _scalar(text: str) -> Any:
        if text[0] in '"[{':
            try:
                return json.loads(text)
            except json.JSONDecodeError:
                return [part.strip() for part in text[1:-1].split(",")]
        if text[0] in "|>!&*@`'%":
            raise ValueError(f"not plain YAML: {text!r}")
        if re.fullmatch(r"-?\d+", text):
            return int(text)
        return {"true": True, "false": False, "null": None}.get(text, text.partition(" #")[0])


def load(text: str) -> Any:
    """The document as dicts, lists and scalars. Raises ValueError for what is not plain.

    >>> load("a: &x\\n  b: 1\\nc:\\n  <<: *x\\n  d: [\\"e\\"]")
    {'a': {'b': 1}, 'c': {'b': 1, 'd': ['e']}}
    """
    return PlainYaml(text).load()
