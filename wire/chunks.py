"""Feed entries <-> the JSON chunks of a feed in Redis (11, and the read side).

A feed's entries are cut into chunks of 25, each a JSON array, so that a page reads only what it shows. The
writer joins parts that are encoded once: what an item says of itself, and why it is there.

>>> feed = Entries.of([Entry("i1", "ann", 1_000, 0.5, "in_network", ("you follow ann",), title="Hello")])
>>> chunks = feed.chunks()
>>> chunks[0][:70]
b'[{"id":"i1","author":"ann","created_at":1000,"title":"Hello","score":0'
>>> decode_chunk(chunks[0])[0].why
('you follow ann',)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import orjson

CHUNK_ENTRIES = 25
ENTRIES_MAX = 500
CHUNKS_MAX = ENTRIES_MAX // CHUNK_ENTRIES
PARTS_CACHED_MAX = 1 << 16
PIECES = 4
"""What an entry in a chunk is joined from: the comma before it, its item, its score, its reason."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One place of a feed, as it is stored. `created_at` in ms; `why` are sentences for people.

    `title` and `topics` are the item's own and absent where it has none; `group` names entries that belong
    together (a conversation, a carousel) and is absent for most.
    """

    id: str
    author: str
    created_at: int
    score: float
    source: str
    why: tuple[str, ...] = ()
    group: str | None = None
    title: str | None = None
    topics: tuple[str, ...] = ()


@lru_cache(PARTS_CACHED_MAX)
def item_part(
    item_id: str, author: str, created_ms: int, title: str | None = None, topics: tuple[str, ...] = ()
) -> bytes:
    """The half of an entry that only depends on the item; cached, so call it with the item's own strings."""
    fields: dict[str, object] = {"id": item_id, "author": author, "created_at": created_ms}
    if title is not None:
        fields["title"] = title
    if topics:
        fields["topics"] = topics
    return orjson.dumps(fields)[:-1] + b',"score":'


@lru_cache(PARTS_CACHED_MAX)
def reason_part(source: str, why: tuple[str, ...] = (), group: str | None = None) -> bytes:
    """The half of an entry that says where it came from and why; cached."""
    fields: dict[str, object] = {"source": source, "why": why}
    if group is not None:
        fields["group"] = group
    return b"," + orjson.dumps(fields)[1:]


@dataclass(frozen=True, slots=True)
class Entries:
    """A feed's entries as three columns of equal length, best first.

    `items[i]` is `item_part(...)`, `scores[i]` a finite float, `reasons[i]` is `reason_part(...)`. Scores
    may be a list or a float64 array. Raises ValueError when lengths differ or there are over ENTRIES_MAX.
    """

    items: Sequence[bytes]
    scores: Sequence[float]
    reasons: Sequence[bytes]

    def __post_init__(self) -> None:
        n = len(self.items)
        if n != len(self.scores) or n != len(self.reasons):
            raise ValueError(
                f"{n} items, {len(self.scores)} scores, {len(self.reasons)} reasons; give one of each"
            )
        if n > ENTRIES_MAX:
            raise ValueError(f"a feed of {n} entries, at most {ENTRIES_MAX} fit; emit fewer")

    def __len__(self) -> int:
        return len(self.items)

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Entries:
        """From whole entries; the slower way, for tests and tools."""
        rows = list(entries)
        return cls(
            [item_part(e.id, e.author, e.created_at, e.title, e.topics) for e in rows],
            [e.score for e in rows],
            [reason_part(e.source, e.why, e.group) for e in rows],
        )

    def chunks(self) -> list[bytes]:
        """p0, p1, ...: JSON arrays of CHUNK_ENTRIES entries, the last one shorter; none for an empty feed.

        Raises ValueError for a score that is not finite.
        """
        if not self.items:
            return []
        text = orjson.dumps(self.scores, option=orjson.OPT_SERIALIZE_NUMPY)
        if b"n" in text:  # null: JSON knows no NaN and no infinity
            raise ValueError("a score is not a finite number; correct the scorer")
        pieces = [b","] * (PIECES * len(self))
        pieces[1::PIECES], pieces[2::PIECES], pieces[3::PIECES] = (
            self.items,
            text[1:-1].split(b","),
            self.reasons,
        )
        found = []
        for start in range(0, len(pieces), PIECES * CHUNK_ENTRIES):
            chunk = pieces[start : start + PIECES * CHUNK_ENTRIES]
            chunk[0] = b"["
            chunk.append(b"]")
            found.append(b"".join(chunk))
        return found


def decode_chunk(chunk: bytes) -> list[Entry]:
    """The entries of one chunk; fields that this version does not know are ignored.

    Raises ValueError when it is not a chunk.
    """
    try:
        rows = orjson.loads(chunk)
        if not isinstance(rows, list):
            raise TypeError("not an array")
        return [_entry(row) for row in rows]
    except (KeyError, TypeError, AttributeError, orjson.JSONDecodeError) as error:
        raise ValueError(f"not a chunk of feed entries ({error}): {chunk[:80]!r}") from error


def _entry(row: dict[str, object]) -> Entry:
    return Entry(
        row["id"],  # type: ignore[arg-type]
        row["author"],  # type: ignore[arg-type]
        row["created_at"],  # type: ignore[arg-type]
        row["score"],  # type: ignore[arg-type]
        row["source"],  # type: ignore[arg-type]
        tuple(row["why"]),  # type: ignore[arg-type]
        row.get("group"),  # type: ignore[arg-type]
        row.get("title"),  # type: ignore[arg-type]
        tuple(row.get("topics", ())),  # type: ignore[arg-type]
    )


def chunk_field(chunk: int) -> str:
    """The hash field that holds a chunk.

    >>> chunk_field(0)
    'p0'
    """
    return f"p{chunk}"
