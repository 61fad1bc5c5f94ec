"""Affinity (8): what the user thinks of an item's author and topics, for long and lately, for and against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.features.definition import Family, Told
from models.features.pairs import Pairs
from models.features.scene import Scene
from models.features.ties import FOLLOWED, AuthorTies, TopicTies
from models.fingerprint import FP32
from models.tables import GRID
from models.verbs import Role

F64 = NDArray[np.float64]

affinity = Family("affinity")


@affinity.author("merged.author_*", "item.author", reason=Told("from an author you like"))
def author_long_pos(ties: AuthorTies, out: F64) -> None:
    """log2(1 + weight) of the author among the user's 24 authors, for; half-life 30 days."""
    out[...] = ties.value("long_pos")


@affinity.author("merged.author_*", "item.author")
def author_long_neg(ties: AuthorTies, out: F64) -> None:
    """log2(1 + weight) of the author among the user's 24 authors, against; half-life 14 days."""
    out[...] = ties.value("long_neg")


@affinity.author("merged.author_*", "item.author", reason=Told("from one of your favourite authors"))
def author_long_share(ties: AuthorTies, out: F64) -> None:
    """The author's share of all of the user's weights for authors."""
    out[...] = ties.value("long_share")


@affinity.author("row.ring", "item.author", reason=Told("from an author you liked lately"))
def author_short_pos(ties: AuthorTies, out: F64) -> None:
    """log2(1 + weight) of the author in the last 16 engagements, for; half-lives of the verbs."""
    out[...] = ties.value("short_pos")


@affinity.author("row.ring", "item.author")
def author_short_neg(ties: AuthorTies, out: F64) -> None:
    """log2(1 + weight) of the author in the last 16 engagements, against."""
    out[...] = ties.value("short_neg")


@affinity.topic("merged.topic_*", "item.topics", reason=Told("about a topic you like"))
def topic_long_pos(ties: TopicTies, out: F64) -> None:
    """Sum over the item's topics of log2(1 + weight) among the user's 16 topics, for."""
    out[...] = ties.value("long_pos")


@affinity.topic("merged.topic_*", "item.topics")
def topic_long_neg(ties: TopicTies, out: F64) -> None:
    """Sum over the item's topics of log2(1 + weight) among the user's 16 topics, against."""
    out[...] = ties.value("long_neg")


@affinity.topic("merged.topic_*", "item.topics", reason=Told("about one of your main topics"))
def topic_long_share(ties: TopicTies, out: F64) -> None:
    """The topics' share of all of the user's weights for topics."""
    out[...] = ties.value("long_share")


@affinity.topic("row.ring", "item.topics", reason=Told("like what you liked lately"))
def topic_short_pos(ties: TopicTies, out: F64) -> None:
    """Sum over the item's topics of log2(1 + weight) in the last 16 engagements, for."""
    out[...] = ties.value("short_pos")


@affinity.topic("row.ring", "item.topics")
def topic_short_neg(ties: TopicTies, out: F64) -> None:
    """Sum over the item's topics of log2(1 + weight) in the last 16 engagements, against."""
    out[...] = ties.value("short_neg")


@affinity.author("graph.follows", "item.author", reason=Told("you follow the author"))
def author_followed(ties: AuthorTies, out: F64) -> None:
    """1 where the user follows the author."""
    np.multiply(ties.marks & np.uint8(FOLLOWED), float(GRID), out=out)


@affinity.topic("graph.follows", "item.topics", reason=Told("about a topic you follow"))
def topic_followed(ties: TopicTies, out: F64) -> None:
    """How many of the item's topics the user follows."""
    np.multiply(ties.marks & np.uint8(FOLLOWED), float(GRID), out=out)


@affinity.pair("row.ring", "item.fp")
def item_engaged(scene: Scene, out: F64) -> None:
    """1 where the last 16 engagements hold a strong one with this very item that was not withdrawn."""
    user, fp = scene.interests.standing(Role.STRONG)
    out[...] = 0.0
    out.reshape(-1)[Pairs(scene.shape[0], user, fp & FP32).find(scene.asked)[0]] = GRID
