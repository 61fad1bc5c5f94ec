"""What a feature is (8): one definition holds its name, version, default, inputs and computation.

A feature is *of* something: of items alone, of items at a moment, of users, of users and authors, of users
and topics, or of users and items. It is computed once for each of these, however many candidates share it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from models.features.items import Items, Moment
    from models.features.scene import Scene
    from models.features.ties import AuthorTies, TopicTies

F64 = NDArray[np.float64]

FEATURE_MAX = 1 << 21
"""Every value is an integer (units of 1/4096) with at most this size: weights up to 64 and 64 features keep
all sums below 2^53."""


class Of(Enum):
    """What a feature is a function of, besides sums over all items.

    ITEM: an item, its author's and topics' sums, and the hour of `as_of`: kept until one of these
    changes. MOMENT: an item and `as_of`. USER: a user and `as_of`. AUTHOR: a user and an author, 0 unless
    one has to do with the other. TOPIC: likewise, summed over the item's topics. PAIR: a user and an
    item, or a user and all candidates.
    """

    ITEM = "item"
    MOMENT = "moment"
    USER = "user"
    AUTHOR = "author"
    TOPIC = "topic"
    PAIR = "pair"


class Told(NamedTuple):
    """What `why` says of an item that stands high because of a feature: `words`, where the value is better
    than `usual` (a grid integer)."""

    words: str
    usual: int = 0


@dataclass(frozen=True, slots=True)
class Feature:
    """One number per user and candidate.

    `compute(what it is of, out)` fills out with grid integers; what it writes in places of padding does not
    matter. `default`: the value where there is nothing to say. `inputs`: the fields it reads. `version`
    grows whenever the formula changes, so that old logs are not mixed with new ones. `meaning` is for people;
    `reason`: what `why` says of it, if anything.
    """

    name: str
    family: str
    of: Of
    version: int
    default: int
    inputs: tuple[str, ...]
    meaning: str
    reason: Told | None
    compute: Callable[[Any, F64], None]


Source = TypeVar("Source")
Define = Callable[[Callable[[Source, F64], None]], Callable[[Source, F64], None]]


class _Kind(Generic[Source]):
    """Makes functions features of one kind: `@family.item("input", ...)`."""

    def __init__(self, family: str, of: Of, features: list[Feature]) -> None:
        self._family, self._of, self._features = family, of, features

    def __call__(
        self, *inputs: str, version: int = 1, default: int = 0, reason: Told | None = None
    ) -> Define[Source]:
        """The function's name is the feature's, its docstring the meaning."""

        def define(compute: Callable[[Source, F64], None]) -> Callable[[Source, F64], None]:
            meaning = " ".join((compute.__doc__ or "").split())
            name = compute.__name__
            assert meaning, f"feature {name} says nothing of itself"
            self._features.append(
                Feature(name, self._family, self._of, version, default, inputs, meaning, reason, compute)
            )
            return compute

        return define


class Family:
    """The features of one module, in the order of their definitions.

    What the functions are given, and the shape of `out`: `item` Items [m]; `moment` Moment [m]; `user` a
    Scene [U]; `author` AuthorTies [ties]; `topic` TopicTies [cells]; `pair` a Scene [U, C].
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.features: list[Feature] = []
        self.item: _Kind[Items] = _Kind(name, Of.ITEM, self.features)
        self.moment: _Kind[Moment] = _Kind(name, Of.MOMENT, self.features)
        self.user: _Kind[Scene] = _Kind(name, Of.USER, self.features)
        self.author: _Kind[AuthorTies] = _Kind(name, Of.AUTHOR, self.features)
        self.topic: _Kind[TopicTies] = _Kind(name, Of.TOPIC, self.features)
        self.pair: _Kind[Scene] = _Kind(name, Of.PAIR, self.features)
