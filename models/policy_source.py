"""Reading a policy's TOML so that every complaint names its line (used by models.policy; no step itself)."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Path = tuple[str, ...]

_HEADER = re.compile(r"\s*\[\[?\s*(?P<path>[^\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(
    r"""\s*(?P<path>(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")
_AT_LINE = re.compile(r"\(at line (\d+), column \d+\)|\(at end of document\)")
_QUIET = re.compile(r"""\"\"\".*?\"\"\"|'''.*?'''|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|#[^\n]*""", re.DOTALL)


class PolicyError(ValueError):
    """A policy that cannot be used: `line` (1-based, 0 = all of it), `key`, what is wrong, what to do."""

    def __init__(self, name: str, line: int, key: str, problem: str) -> None:
        where = f"{name}, line {line}" if line else name
        super().__init__(f"{where}: {key + ' ' if key else ''}{problem}")
        self.line, self.key, self.problem = line, key, problem


def read(text: str, name: str) -> Section:
    """The document's root. Raises PolicyError where it is no TOML."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _AT_LINE.search(str(error))
        line = int(found[1]) if found and found[1] else text.count("\n") + 1
        problem = _AT_LINE.sub("", str(error)).strip()
        raise PolicyError(name, line, "", f"this is not TOML ({problem}); correct the line") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        problem = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise PolicyError(name, 0, "", f"this cannot be read ({problem}); correct it") from error
    return Section(values, (), _lines(text), name)


def _lines(text: str) -> dict[Path, int]:
    """The line of each table header and key. Keys inside inline tables and arrays have their owner's line."""
    lines: dict[Path, int] = {}
    table: Path = ()
    depth = 0
    for number, line in enumerate(_without_text(text).split("\n"), 1):
        if depth == 0:
            if header := _HEADER.match(line):
                table = _parts(header["path"])
                for n in range(1, len(table) + 1):
                    lines.setdefault(table[:n], number)
                continue
            if key := _KEY.match(line):
                lines.setdefault(table + _parts(key["path"]), number)
                line = line[key.end() :]
        depth += sum(line.count(c) for c in "[{") - sum(line.count(c) for c in "]}")
    return lines


def _without_text(text: str) -> str:
    """The document with comments and string contents that could look like keys blanked; lines stay."""

    def blank(found: re.Match[str]) -> str:
        piece = found[0]
        return piece if re.fullmatch(r"""["'][A-Za-z0-9_-]*["']""", piece) else "\n" * piece.count("\n")

    return _QUIET.sub(blank, text)


def _parts(path: str) -> Path:
    return tuple(part.strip("\"'") for part in _PART.findall(path))


class Section:
    """One table. Each key is asked for once; `close` refuses the keys that nobody asked for."""

    def __init__(self, values: Mapping[str, Any], path: Path, lines: Mapping[Path, int], name: str) -> None:
        self.values, self.path, self.name = values, path, name
        self._lines, self._asked = lines, set[str]()

    def error(self, key: str, problem: str) -> PolicyError:
        """What is wrong with a key of this table, with the line of the key or of the next table around it."""
        path = (*self.path, key) if key else self.path
        near = next((p for p in (path[:n] for n in range(len(path), 0, -1)) if p in self._lines), None)
        return PolicyError(self.name, self._lines[near] if near else 0, ".".join(path), problem)

    def section(self, key: str, *, required: bool = False) -> Section:
        """A table inside this one; an empty one where it is left out and may be."""
        value = self._take(key, None)
        if value is None and required:
            raise self.error(key, f"is missing; add a table [{'.'.join((*self.path, key))}]")
        if value is not None and not isinstance(value, dict):
            raise self.error(key, f"is {_shown(value)}, it must be a table; write [{key}] and its keys")
        return Section(value or {}, (*self.path, key), self._lines, self.name)

    def sections(self) -> Iterator[tuple[str, Section]]:
        """All tables inside this one, in the order of the file."""
        for key in self.values:
            yield key, self.section(key)

    def whole(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """An integer in low..high."""
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self._wrong(key, value, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        """A finite number in low..high."""
        value = self._take(key, default)
        good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not good or not low <= value <= high:
            raise self._wrong(key, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def choice(self, key: str, choices: Sequence[str], default: str | None = None) -> str:
        """One of some words."""
        value = self._take(key, default)
        if value not in choices or not isinstance(value, str):
            raise self._wrong(key, value, "one of " + ", ".join(choices))
        return value

    def choices(self, key: str, choices: Sequence[str]) -> tuple[str, ...]:
        """A list of distinct words out of some."""
        value = self._take(key, None)
        if not isinstance(value, list) or any(not isinstance(v, str) for v in value):
            raise self._wrong(key, value, "a list of words")
        for word in value:
            if word not in choices:
                raise self.error(key, f"names {word!r}; choose from " + ", ".join(choices))
        if len(set(value)) != len(value):
            raise self.error(key, "names a word twice; keep one of them")
        return tuple(value)

    def text(self, key: str, pattern: str, what: str) -> str:
        """A word that matches."""
        value = self._take(key, None)
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise self._wrong(key, value, what)
        return value

    def close(self) -> None:
        """Raises PolicyError for the first key that is not known here."""
        for key in self.values:
            if key not in self._asked:
                known = ", ".join(sorted(self._asked)) or "none"
                raise self.error(key, f"is not known; remove it or correct its name (known here: {known})")

    def _take(self, key: str, default: Any) -> Any:
        self._asked.add(key)
        return self.values.get(key, default)

    def _wrong(self, key: str, value: Any, wanted: str) -> PolicyError:
        state = "is missing" if value is None else f"is {_shown(value)}"
        return self.error(key, f"{state}, it must be {wanted}; correct it")


def _shown(value: Any) -> str:
    shown = str(value).lower() if isinstance(value, bool) else repr(value)
    return shown if len(shown) <= 40 else shown[:37] + "..."
