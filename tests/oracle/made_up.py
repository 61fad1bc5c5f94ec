"""A made-up stream that exercises everything that the pages describe, from one seed.

Retries, late activities, undos, dwell, positions; follows, mutes and blocks of authors, topics and keywords;
items with embeddings, several topics, equal titles; items that change, go, or come a moment before the end.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.oracle.numbers import DAY_MS, HOUR_MS
from tests.oracle.records import EMBEDDING_DIM, Activity, Item

START_MS = 1_699_000_000_000
DAYS = 20
QUIET_MS = 15 * DAY_MS
TOPICS, AUTHORS = 14, 25
WORDS = ("news", "Cats", "dogs", "rust", "kafka", "Größe", "cup-of-tea", "final")
VERBS = {
    "impression": 42, "click": 14, "dwell": 6, "visit": 2, "like": 12, "share": 2, "comment": 3, "save": 2,
    "complete": 2, "hide": 2, "not_interested": 1, "report": 1, "follow": 6, "mute": 1, "block": 1, "undo": 5,
}  # fmt: skip
GRAPH = {"follow", "mute", "block"}

Event = Item | Activity | str
"""A string is the id of an item that is removed."""


@dataclass(frozen=True)
class Size:
    """Of a stream. `changing`: items change and go; `quiet`: so many users do nothing in the last 15 days."""

    activities: int = 6_000
    items: int = 500
    users: int = 60
    end_ms: int = START_MS + DAYS * DAY_MS
    changing: bool = True
    quiet: int = 5


class Stream:
    """`events`: in the order in which they are produced; `end_ms`: all happened before."""

    def __init__(self, seed: int, size: Size = Size()) -> None:
        self.random, self.size = random.Random(seed), size
        self.end_ms, self.users = size.end_ms, size.users
        self.tastes = [self._numbers(100) for _ in range(TOPICS)]
        self.likes = [self.random.sample(range(TOPICS), 3) for _ in range(self.users)]
        self.items = [self._item(n) for n in range(size.items)]
        self.done: dict[str, list[Activity]] = {}
        self.events = self._events()

    def _numbers(self, size: int) -> list[int]:
        return [self.random.randint(-size, size) for _ in range(EMBEDDING_DIM)]

    def _item(self, n: int) -> Item:
        pick = self.random
        topic, created_ms = pick.randrange(TOPICS), self.end_ms - int(pick.random() ** 2 * DAYS * DAY_MS)
        others = pick.sample(range(TOPICS), pick.randint(0, 5))
        topics = tuple(f"topic-{t}" for t in [topic, *others]) if pick.random() < 0.95 else ()
        taste = zip(self.tastes[topic], self._numbers(60), strict=True)
        embedding = tuple(max(-127, min(127, a + b)) for a, b in taste)
        title = " ".join(pick.choices(WORDS, k=2)) if pick.random() < 0.8 else pick.choice((None, ""))
        author = f"author-{min(int(pick.expovariate(0.15)), AUTHORS - 1)}"
        author = f"user-{pick.randrange(self.users)}" if pick.random() < 0.1 else author
        return Item(
            f"item-{n}", author, created_ms, topics, title, embedding if pick.random() < 0.9 else None
        )

    def _events(self) -> list[Event]:
        timed: list[tuple[int, int, Event]] = [(item.created_ms, 0, item) for item in self.items]
        timed += [(made_ms, 1, one) for made_ms, one in self._activities(self.size.activities)]
        timed.sort(key=lambda one: one[:2])
        return list(self._disturbed([event for _, _, event in timed]))

    def _activities(self, count: int) -> Iterator[tuple[int, Activity]]:
        """Each with the time at which it is produced."""
        times = sorted(
            self.end_ms - 1 - int(self.random.random() ** 2 * DAYS * DAY_MS * 0.9) for _ in range(count)
        )
        young = sorted(self.items, key=lambda item: item.created_ms)
        there = 0
        for n, time_ms in enumerate(times):
            while there < len(young) and young[there].created_ms <= time_ms:
                there += 1
            if there:
                yield time_ms, self._activity(n, time_ms, young[max(0, there - 150) : there])

    def _activity(self, n: int, time_ms: int, young: list[Item]) -> Activity:
        pick = self.random
        number = min(int(pick.expovariate(5 / self.users)), self.users - 1)
        if number < self.size.quiet and time_ms > self.end_ms - QUIET_MS:
            number = self.users - 1 - number
        user, verb = f"user-{number}", pick.choices(list(VERBS), list(VERBS.values()))[0]
        done = self.done.setdefault(user, [])
        if verb == "undo" and not done:
            verb = "click"
        if verb in GRAPH:
            target, name = self._edge(verb)
            made = Activity(f"a-{n}", user, verb, name, time_ms, target)
        elif verb == "undo":
            old = pick.choice(done[-30:])
            made = Activity(
                f"a-{n}", user, verb, old.object, time_ms, old.target, undone_verb=old.verb,
                undone_ms=old.time_ms + pick.choice((0, 0, 0, 0, HOUR_MS)), position=old.position,
            )  # fmt: skip
        else:
            liked = [i for i in young if any(f"topic-{t}" in i.topics for t in self.likes[number])]
            item = pick.choice(liked if liked and pick.random() < 0.7 else young)
            dwell_ms = pick.randint(0, 90_000) if verb == "dwell" or pick.random() < 0.1 else 0
            position = pick.randint(-1, 130) if pick.random() < 0.7 else -1
            made = Activity(f"a-{n}", user, verb, item.item_id, time_ms, None, dwell_ms, position)
        if pick.random() < 0.05:
            made = replace(made, time_ms=time_ms - int(pick.random() ** 2 * 12 * DAY_MS))
        if made.verb != "undo":
            done.append(made)
        return made

    def _edge(self, verb: str) -> tuple[str | None, str]:
        """What is followed, muted or blocked: kind and id."""
        pick = self.random
        kinds = ("author", None, "topic") if verb == "follow" else ("author", None, "topic", "keyword")
        kind = pick.choice(kinds)
        if kind == "topic":
            return kind, f"topic-{pick.randrange(TOPICS)}"
        if kind == "keyword":
            return kind, pick.choice(WORDS).lower()
        return kind, pick.choice((f"author-{pick.randrange(AUTHORS)}", f"user-{pick.randrange(self.users)}"))

    def _disturbed(self, events: list[Event]) -> Iterator[Event]:
        """Retries some activities; changes, removes and brings back some items."""
        pick, recent = self.random, list[Activity]()
        for event in events:
            yield event
            if isinstance(event, Activity):
                recent = [*recent[-60:], event]
                if pick.random() < 0.03:
                    yield pick.choice(recent)
            elif self.size.changing and isinstance(event, Item) and pick.random() < 0.1:
                yield replace(event, title="another title", topics=event.topics[1:])
            elif self.size.changing and isinstance(event, Item) and pick.random() < 0.02:
                yield event.item_id


@dataclass(frozen=True)
class Written:
    """A stream written by hand."""

    events: list[Event]
    end_ms: int


def crowded() -> Written:
    """One user, 5,050 followed authors (1,100 of them with items), 1,010 mutes and as many blocks; many items
    that are alike, so that ties decide."""
    items = [
        Item(f"i-{n}", f"author-{4 * (n % 1_100)}", START_MS + HOUR_MS * (n * 37 % 60), (f"topic-{n % 9}",))
        for n in range(2_400)
    ]
    t = START_MS + 61 * HOUR_MS
    acts: list[tuple[str, str, str | None]] = [("follow", f"author-{n}", "author") for n in range(5_050)]
    acts += [(verb, f"word-{n}", "keyword") for n in range(1_010) for verb in ("mute", "block")]
    acts += [("like", f"i-{n * n}", None) for n in range(40)] + [("like", "i-9", None)] * 5
    acts += [("follow", "topic-3", "topic")] * 2
    activities = [
        Activity(f"a-{n}", "ann", verb, name, t + n, kind) for n, (verb, name, kind) in enumerate(acts)
    ]
    return Written([*items, *activities], t + len(activities))
