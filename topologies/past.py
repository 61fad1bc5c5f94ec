"""What lies behind: activities, items and the served log as they were written, and slates out of them (11).

A *slate* is a feed at its coordinates. `topologies.rebuild` computes it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.columns import ActivityColumns
from models.fingerprint import fp64, fp64s
from models.item_columns import ItemRecord
from topologies.ticks import TickMark
from wire.version import Version

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

FOR_YOU = "for_you"
PAGES_MAX = 100
"""Pages of one feed: it has at most 500 entries and readers ask for 5 or more at a time."""


@dataclass(frozen=True, slots=True)
class ItemChange:
    """An item as it became known at `time_ms`, with its place on the topic where it has one; `record` None:
    it went."""

    time_ms: int
    fp: int
    record: ItemRecord | None
    partition: int = 0
    offset: int = -1


@dataclass(frozen=True, slots=True)
class Served:
    """One record of the served log. Arrays by entry: `fps` uint64[n], `scores` float64[n]; `propensity`
    float64[n], nan where not drawn; `slate`: so many entries at the top were drawn one after the other, and
    from how many (0, 0: drawn ones are uniform); `logged` int32[F, k]: features of the entries `featured`
    int64[k]. `listed`, `known`: by partition of items, up to where the index held them when its lists were
    made, and when it was ranked from (empty: unknown)."""

    user: bytes
    surface: str
    version: str
    partition: int
    position: int
    tick: int
    as_of_ms: int
    seed: int
    policy: str
    model: str
    ids: tuple[str, ...]
    fps: U64
    scores: F64
    propensity: F64
    featured: I64
    logged: NDArray[np.int32]
    slate: tuple[int, int] = (0, 0)
    listed: tuple[int, ...] = ()
    known: tuple[int, ...] = ()

    @classmethod
    def parse(cls, value: bytes, partition: int) -> Served:
        """Raises ValueError for what is no record of the served log."""
        try:
            return cls._of(orjson.loads(value), partition)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(f"no record of the served log ({type(error).__name__}: {error})") from error

    @classmethod
    def _of(cls, record: Mapping[str, Any], partition: int) -> Served:
        ids = tuple(record["items"])
        propensity = np.full(len(ids), np.nan)
        propensity[record["explored"]] = record["propensities"]
        featured = np.array(record.get("featured", ()), np.int64)
        logged = np.array(record.get("features", ()), np.int32).reshape(-1, max(len(featured), 1))
        listed = tuple(map(int, record.get("items_listed", ())))
        return cls(
            record["actor"].encode(),
            record["surface"],
            record["version"],
            partition,
            int(record["position"]),
            int(record["tick"]),
            int(record["as_of_ms"]),
            int(record["seed"]),
            record["policy"],
            record["model"],
            ids,
            fp64s(one.encode() for one in ids),
            np.array(record["scores"], np.float64),
            propensity,
            featured,
            logged[:, : len(featured)],
            _pair(record.get("slate", (0, 0))),
            listed,
            _known(listed, record.get("items_since", {})),
        )

    def slate_fps(self, namespace: str) -> Iterator[int]:
        """Fingerprints of the slate ids of this feed's pages, as readers name them (docs/reading.md)."""
        pages = min(PAGES_MAX, len(self.ids) + 1)
        head = f"{self.surface}:{namespace}:{self.version}:"
        return (fp64(f"{head}{page}".encode()) for page in range(pages))

    @property
    def generation(self) -> int:
        """Grows at every promote and rollback. Raises ValueError for no version."""
        return Version.parse(self.version).generation


def _known(listed: tuple[int, ...], since: Mapping[str, Any]) -> tuple[int, ...]:
    ends = dict(enumerate(listed)) | {int(partition): int(end) for partition, end in since.items()}
    return tuple(ends.get(partition, 0) for partition in range(max(ends, default=-1) + 1))


def _pair(value: Any) -> tuple[int, int]:
    slots, pool = value
    return int(slots), int(pool)


@dataclass(slots=True)
class Past:
    """All that a replay reads. `partitions`: activities in offset order; `items` by time; `counts`: what was
    passed over while reading; `marks`: of ticks, in any order."""

    partitions: list[ActivityColumns]
    items: list[ItemChange]
    served: list[Served] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    marks: list[TickMark] = field(default_factory=list)

    def take(self, value: bytes, partition: int) -> None:
        """One record of the served log: a feed, or the marker of a tick."""
        try:
            self.served.append(Served.parse(value, partition))
        except ValueError:
            try:
                self.marks.append(TickMark.parse(value))
            except ValueError:
                self.counts["records of the served log that are none"] += 1

    @property
    def end_ms(self) -> int:
        """The newest event."""
        return max((int(part.event_ms.max()) for part in self.partitions if len(part)), default=0)


@dataclass(frozen=True, slots=True)
class Slate:
    """A feed to compute again. Without `fps` its candidates are gathered as they were (`seed`); with them
    (uint64[C]) these items are its candidates, and what happened at `as_of_ms` itself is not known yet."""

    user: bytes
    partition: int
    position: int
    tick: int
    as_of_ms: int
    seed: int = 0
    fps: U64 | None = None
    served: Served | None = None

    @property
    def listed(self) -> tuple[int, ...]:
        """As `Served.listed`."""
        return self.served.listed if self.served is not None else ()

    @property
    def known(self) -> tuple[int, ...]:
        """As `Served.known`."""
        return self.served.known if self.served is not None else ()

    @property
    def order(self) -> tuple[int, int, int, int]:
        """State only goes forward. Ticks come first: a worker may close one a moment after another did."""
        return self.tick, self.as_of_ms, self.partition, self.position


def of_served(served: Served) -> Slate:
    """The slate of a served record."""
    s = served
    return Slate(s.user, s.partition, s.position, s.tick, s.as_of_ms, s.seed, None, s)


def of_shown(
    users: Sequence[bytes], times_ms: Sequence[int], fps: Sequence[U64], records: I64, tick_ms: int
) -> list[Slate]:
    """Slates of which only the impressions are known, all in partition 0: what was shown to a user at a time.
    `records` int64[n]: the partition's record times, ascending."""
    positions = np.searchsorted(records, np.array(times_ms, np.int64), "left").tolist()
    return [
        Slate(user, 0, position, at // tick_ms, at, fps=shown)
        for user, at, shown, position in zip(users, times_ms, fps, positions, strict=True)
    ]


def by_slate(served: Iterable[Served], namespace: str) -> dict[tuple[int, int], Served]:
    """(user fp, slate fp) -> the record that issued it; of one version written twice the last counts."""
    return {
        (fp64(one.user), slate): one
        for one in served
        if one.surface == FOR_YOU
        for slate in one.slate_fps(namespace)
    }
