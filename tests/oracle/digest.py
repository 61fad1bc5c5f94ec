"""The digest of a namespace (docs/replay.md): one hash over rows, item statistics and settled feeds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

from tests.oracle.feeds import SURFACES, Feed, Settled, World

CHUNK = 25


def digest(world: World, settled: Settled) -> str:
    return digest_of(tables(world, settled))


def digest_of(lines: str) -> str:
    """Of what `tables` gave."""
    return hashlib.sha256(lines.encode()).hexdigest()


def tables(world: World, settled: Settled) -> str:
    """A line for each table: its name, how many records it has, and their number."""
    feeds = ((one, user.id, settled.feed(user, one)) for user in settled.active() for one in SURFACES)
    return "".join(
        f"{name} {table(rows)}\n"
        for name, rows in (
            ("users", world.user_rows().items()),
            ("items", world.item_rows().items()),
            ("feeds", [(f"{surface}\0{user}".encode(), head(feed)) for surface, user, feed in feeds]),
        )
    )


def table(rows: Iterable[tuple[bytes, bytes]]) -> str:
    records = total = 0
    for key, value in rows:
        found = hashlib.sha256(len(key).to_bytes(4, "little") + key + value).digest()
        records, total = records + 1, (total + int.from_bytes(found, "little")) % (1 << 256)
    return f"{records} {total:064x}"


def head(feed: Feed) -> bytes:
    fields = {name: value if isinstance(value, str) else compact(value) for name, value in feed.head.items()}
    for start in range(0, len(feed.entries), CHUNK):
        fields[f"p{start // CHUNK}"] = compact(feed.entries[start : start + CHUNK])
    return b"".join(
        len(text).to_bytes(4, "little") + text
        for name in sorted(fields)
        for text in (name.encode(), fields[name].encode())
    )


def compact(value: Any) -> str:
    """JSON without spaces; numbers with a fraction in the shortest form that reads back as the same."""
    return "".join(_parts(value))


def _parts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        members = ",".join(f"{compact(name)}:{compact(one)}" for name, one in value.items())
        yield f"{{{members}}}"
    elif isinstance(value, (list, tuple)):
        yield f"[{','.join(compact(one) for one in value)}]"
    elif isinstance(value, float):
        yield _number(value)
    else:
        yield json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    text = repr(value)
    if "e-" not in text:
        return text
    digits, exponent = text.split("e-")
    if int(exponent) > 5:
        return f"{digits}e-{int(exponent)}"
    return f"{value:.{int(exponent) + len(digits.lstrip('-').replace('.', '')) - 1}f}"
