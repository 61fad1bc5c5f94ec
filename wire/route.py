"""Which namespace a reader follows: the record under `feedrank:route` (promote, rollback, canary).

A split takes the users whose point, a number in [0, 1) made from its salt and the user's id, is below its
share. Splits are tried in order. Splits with the same salt divide the same line (their shares add up), so two
of 0.1 are two groups that do not overlap; another salt draws anew.

>>> route = Route(version=2, generation=2, default="live", splits=(Split("canary", 0.05, "june"),))
>>> sum(route.namespace(f"user-{i}") == "canary" for i in range(1_000))
49
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import orjson

from wire.names import Namespace

SPLITS_MAX = 16
SALT_CHARS_MAX = 64
HISTORY_MAX = 50
_POINTS = 2**32


class WrongRouteError(ValueError):
    """The record is not a route; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Split:
    """A share (0 to 1) of the users, chosen by `salt`, that reads `namespace`."""

    namespace: str
    share: float
    salt: str


def point(salt: str, user: str) -> float:
    """Where a user lies in [0, 1): the first 4 bytes, big endian, of SHA-256(salt + ":" + user) over 2^32."""
    return int.from_bytes(hashlib.sha256(f"{salt}:{user}".encode()).digest()[:4], "big") / _POINTS


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of a route's history: what the route became, when, by whom, by which action."""

    version: int
    default: str
    splits: tuple[Split, ...]
    at_ms: int
    by: str
    action: str


@dataclass(frozen=True, slots=True)
class Route:
    """`version` grows with every change of the record, `generation` with every change of what readers see.

    `history`: the newest HISTORY_MAX changes, this one included, newest last. Raises WrongRouteError for a
    share outside 0..1, shares of one salt above 1, or a name that cannot be.
    """

    version: int
    generation: int
    default: str
    splits: tuple[Split, ...] = ()
    history: tuple[Change, ...] = ()

    def __post_init__(self) -> None:
        total: defaultdict[str, float] = defaultdict(float)
        if len(self.splits) > SPLITS_MAX:
            raise WrongRouteError(f"a route with {len(self.splits)} splits; at most {SPLITS_MAX} are allowed")
        for split in self.splits:
            total[split.salt] += split.share
            if not 0 <= split.share <= 1 or total[split.salt] > 1 or len(split.salt) > SALT_CHARS_MAX:
                raise WrongRouteError(
                    f"split {split}: shares are 0 to 1 and, of one salt, at most 1 together; "
                    f"salts have at most {SALT_CHARS_MAX} characters"
                )
        for name in (self.default, *(s.namespace for s in self.splits)):
            try:
                Namespace(name)
            except ValueError as error:
                raise WrongRouteError(str(error)) from error

    def namespace(self, user: str) -> str:
        """The namespace that `user` reads."""
        end: defaultdict[str, float] = defaultdict(float)
        for split in self.splits:
            end[split.salt] += split.share
            if point(split.salt, user) < end[split.salt]:
                return split.namespace
        return self.default

    def changed(self, default: str, splits: tuple[Split, ...], at_ms: int, by: str, action: str) -> Route:
        """The route after a change: one version and one generation on.

        >>> one = Route(1, 1, "live").changed("next", (), at_ms=5, by="ann", action="promote")
        >>> one.generation, one.history[-1].action
        (2, 'promote')
        """
        change = Change(self.version + 1, default, splits, at_ms, by, action)
        history = (*self.history, change)[-HISTORY_MAX:]
        return Route(self.version + 1, self.generation + 1, default, splits, history)

    def encode(self) -> bytes:
        """The record as it is stored."""
        return orjson.dumps(self)

    @classmethod
    def decode(cls, record: bytes) -> Route:
        """Raises WrongRouteError when `record` was not written by `encode`."""
        try:
            fields = orjson.loads(record)
            return cls(
                int(fields["version"]),
                int(fields["generation"]),
                str(fields["default"]),
                _splits(fields),
                tuple(map(_change, fields.get("history", ()))),
            )
        except (KeyError, TypeError, AttributeError, orjson.JSONDecodeError) as error:
            raise WrongRouteError(
                f"feedrank:route holds no route ({type(error).__name__}: {error}); set it again"
            ) from error
        except ValueError as error:
            raise WrongRouteError(f"feedrank:route: {error}; set it again") from error


def _splits(fields: dict[str, Any]) -> tuple[Split, ...]:
    return tuple(
        Split(str(s["namespace"]), float(s["share"]), str(s["salt"])) for s in fields.get("splits", ())
    )


def _change(fields: dict[str, Any]) -> Change:
    version, at_ms = int(fields["version"]), int(fields["at_ms"])
    words = (str(fields[name]) for name in ("by", "action"))
    return Change(version, str(fields["default"]), _splits(fields), at_ms, *words)
