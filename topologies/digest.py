"""One hash over rows, item statistics and settled feeds (all steps): equal where all bytes are equal.

Of each record, SHA-256 over the length of its key (uint32, little endian), key and value, as a number (little
endian); of a table the sum of these modulo 2^256. So no order matters, and shards are hashed where they are.
docs/replay.md defines it for others to compute.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

_MODULUS = 1 << 256
TABLES = ("users", "items", "feeds")


def record_hash(key: bytes, value: bytes) -> int:
    """The number of one record, below 2^256."""
    found = hashlib.sha256(len(key).to_bytes(4, "little") + key + value)
    return int.from_bytes(found.digest(), "little")


@dataclass(slots=True)
class TableDigest:
    """`records` counted, and the sum of their hashes."""

    records: int = 0
    total: int = 0

    def add(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Add records of distinct keys."""
        for key, value in rows:
            self.total += record_hash(key, value)
            self.records += 1
        self.total %= _MODULUS

    def merge(self, other: TableDigest) -> None:
        """Add what was hashed elsewhere."""
        self.records += other.records
        self.total = (self.total + other.total) % _MODULUS

    def __str__(self) -> str:
        return f"{self.records} {self.total.to_bytes(32, 'big').hex()}"


@dataclass(slots=True)
class Digest:
    """Of one namespace; `as_of_ms`: when its feeds were settled.

    >>> Digest().text().splitlines()[0][:20]
    'users 0 000000000000'
    """

    as_of_ms: int = 0
    users: TableDigest = field(default_factory=TableDigest)
    items: TableDigest = field(default_factory=TableDigest)
    feeds: TableDigest = field(default_factory=TableDigest)

    def text(self) -> str:
        """A line per table: its name, records, and sum in hexadecimal."""
        return "".join(f"{name} {getattr(self, name)}\n" for name in TABLES)

    def hash(self) -> str:
        """SHA-256 of the text, in hexadecimal."""
        return hashlib.sha256(self.text().encode()).hexdigest()
