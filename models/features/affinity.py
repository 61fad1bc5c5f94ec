"""Affinity (8): what the user thinks of an item's author and topics, for long and lately, for and against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.features.definition import Family, Told
from models.features.interests import TOPIC_ROWS, VALUES
from models.features.pairs import Pairs
from models.features.scene import Scene
from models.fingerprint import FP32
from models.merge import ITEM_TOPICS_MAX
from models.tables import GRID
from models.verbs import Role

F64 = NDArray[np.float64]

affinity = Family("affinity")


@affinity.feature("merged.author_*", "item.author", reason=Told("from an author you like"))
def author_long_pos(scene: Scene, out: F64) -> None:
    """log2(1 + weight) of the author among the user's 24 authors, for; half-life 30 days."""
    _author(scene, out, "long_pos")


@affinity.feature("merged.author_*", "item.author")
def author_long_neg(scene: Scene, out: F64) -> None:
    """log2(1 + weight) of the author among the user's 24 authors, against; half-life 14 days."""
    _author(scene, out, "long_neg")


@affinity.feature("merged.author_*", "item.author", reason=Told("from one of your favourite authors"))
def author_long_share(scene: Scene, out: F64) -> None:
    """The author's share of all of the user's weights for authors."""
    _author(scene, out, "long_share")


@affinity.feature("row.ring", "item.author", reason=Told("from an author you liked lately"))
def author_short_pos(scene: Scene, out: F64) -> None:
    """log2(1 + weight) of the author in the last 16 engagements, for; half-lives of the verbs."""
    _author(scene, out, "short_pos")


@affinity.feature("row.ring", "item.author")
def author_short_neg(scene: Scene, out: F64) -> None:
    """log2(1 + weight) of the author in the last 16 engagements, against."""
    _author(scene, out, "short_neg")


@affinity.feature("merged.topic_*", "item.topics", reason=Told("about a topic you like"))
def topic_long_pos(scene: Scene, out: F64) -> None:
    """Sum over the item's topics of log2(1 + weight) among the user's 16 topics, for."""
    _topic(scene, out, "long_pos")


@affinity.feature("merged.topic_*", "item.topics")
def topic_long_neg(scene: Scene, out: F64) -> None:
    """Sum over the item's topics of log2(1 + weight) among the user's 16 topics, against."""
    _topic(scene, out, "long_neg")


@affinity.feature("merged.topic_*", "item.topics", reason=Told("about one of your main topics"))
def topic_long_share(scene: Scene, out: F64) -> None:
    """The topics' share of all of the user's weights for topics."""
    _topic(scene, out, "long_share")


@affinity.feature("row.ring", "item.topics", reason=Told("like what you liked lately"))
def topic_short_pos(scene: Scene, out: F64) -> None:
    """Sum over the item's topics of log2(1 + weight) in the last 16 engagements, for."""
    _topic(scene, out, "short_pos")


@affinity.feature("row.ring", "item.topics")
def topic_short_neg(scene: Scene, out: F64) -> None:
    """Sum over the item's topics of log2(1 + weight) in the last 16 engagements, against."""
    _topic(scene, out, "short_neg")


@affinity.feature("graph.follows", "item.author", reason=Told("you follow the author"))
def author_followed(scene: Scene, out: F64) -> None:
    """1 where the user follows the author."""
    np.multiply(scene.followed, float(GRID), out=out)


@affinity.feature("graph.follows", "item.topics", reason=Told("about a topic you follow"))
def topic_followed(scene: Scene, out: F64) -> None:
    """How many of the item's topics the user follows."""
    _topic(scene, out, "followed")


@affinity.feature("row.ring", "item.fp")
def item_engaged(scene: Scene, out: F64) -> None:
    """1 where the last 16 engagements hold a strong one with this very item that was not withdrawn."""
    user, fp = scene.interests.standing(Role.STRONG)
    out[...] = 0.0
    out.reshape(-1)[Pairs(user, fp & FP32).find(scene.item_pair)[0]] = GRID


def _author(scene: Scene, out: F64, value: str) -> None:
    place, which = scene.author_interest
    out[...] = 0.0
    out.reshape(-1)[place] = scene.interests.authors[1][VALUES.index(value)][which]


def _topic(scene: Scene, out: F64, row: str) -> None:
    """Sum over the item's topics of one row of the slice's table of topics."""
    table, cell = scene.interests.topics
    found = table[TOPIC_ROWS.index(row)].take(cell)
    np.add(found[0], found[1], out=out)
    for k in range(2, ITEM_TOPICS_MAX):
        out += found[k]
