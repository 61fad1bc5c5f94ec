"""A stream on the fast path and on the oracle, and what differs between them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from itertools import islice
from typing import Protocol

import orjson

from models.features import FEATURE_NAMES
from models.policy import parse_policy
from tests.fast_path import TICK_MS, FastPath
from tests.oracle.feeds import SURFACES, Feed, Log, World
from tests.oracle.made_up import Event
from tests.oracle.numbers import fp64
from tests.oracle.records import Activity, Item
from topologies.feed_making import MadeFeed

PARTITIONS = 4
CHUNK_EVENTS = 500
BUNDLED = files("models").joinpath("default_policy.toml").read_text()
LOGGED = {"served_features_share = 0.05": "served_features_share = 1.0"}
"""Features of all entries are logged, so that those without weight are compared too."""


def edited(*edits: dict[str, str]) -> str:
    """The bundled policy with other lines."""
    text = BUNDLED
    for old, new in (pair for one in edits for pair in one.items()):
        assert old in text, f"the bundled policy has no {old!r} any more"
        text = text.replace(old, new)
    return text


class Script(Protocol):
    """Events in the order in which they are produced; all happened before `end_ms`."""

    @property
    def events(self) -> list[Event]: ...
    @property
    def end_ms(self) -> int: ...


class Expected:
    """What the oracle makes of a stream."""

    def __init__(self, script: Script, text: str) -> None:
        self.script, self.text = script, text
        self.world = World(text, PARTITIONS)
        for chunk in chunks(script.events):
            for event in chunk.items:
                if isinstance(event, Item):
                    self.world.put(event)
                else:
                    self.world.remove(fp64(event))
            for activity in chunk.activities:
                self.world.act(activity)

    @cached_property
    def feeds(self) -> dict[tuple[str, str], Feed]:
        """All feeds of all who are active."""
        settled = self.world.settled(self.script.end_ms, TICK_MS)
        return {
            (user.id, surface): settled.feed(user, surface)
            for user in settled.active()
            for surface in SURFACES
        }

    def differences(self, cuts: int = 7) -> list[str]:
        """In what the fast path, run now, differs. `cuts`: seed of where batches are cut."""
        fast = FastPath(parse_policy(self.text), PARTITIONS, random.Random(cuts))
        for chunk in chunks(self.script.events):
            for event in chunk.items:
                if isinstance(event, Item):
                    fast.put([event])
                else:
                    fast.remove([fp64(event)])
            fast.act(chunk.activities)
        as_of_ms = fast.settle(self.script.end_ms)
        made = fast.feeds(sorted({user for user, _ in self.feeds}), as_of_ms)
        parts = {
            "user rows": fast.user_rows() == self.world.user_rows(),
            "item rows": fast.item_rows() == self.world.item_rows(),
            "feeds": {key: shown(one) for key, one in made.items()} == self.feeds,
        }
        return [name for name, equal in parts.items() if not equal]


@dataclass(frozen=True)
class Chunk:
    """A chunk's items come before its activities, as loaders send them."""

    items: list[Item | str]
    activities: list[Activity]


def chunks(events: list[Event]) -> list[Chunk]:
    remaining, found = iter(events), []
    while part := list(islice(remaining, CHUNK_EVENTS)):
        items = [event for event in part if not isinstance(event, Activity)]
        found.append(Chunk(items, [event for event in part if isinstance(event, Activity)]))
    return found


def shown(made: MadeFeed) -> Feed:
    """A feed as the fast path would write it."""
    feed, ranked = made.feed, made.ranked
    head = {
        "version": feed.version,
        "generated_at": feed.generated_at_ms,
        "stale_after": feed.stale_after_ms,
        "policy": feed.policy,
        "model": feed.model,
        "count": len(feed.entries),
    }
    if feed.topics:
        head["topics"] = list(feed.topics)
    features = [] if ranked.features is None else ranked.features.T.tolist()
    log = Log(
        {name: count for name, count in ranked.dropped.items() if count},
        ranked.candidates,
        [list(rules) for rules in ranked.rules],
        ranked.explored.tolist(),
        [dict(zip(FEATURE_NAMES, row, strict=True)) for row in features],
        ranked.propensity[: ranked.slate[0]].tolist(),
    )
    return Feed(head, [entry for chunk in feed.entries.chunks() for entry in orjson.loads(chunk)], log)
