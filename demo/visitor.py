"""The visitor's feed, and what moved in it after they did something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from demo.topic_log import ForeignAct
from demo.world import VISITOR
from serving.errors import FeedError
from serving.pages import FeedEntry, FeedPage
from serving.reader import FeedReader
from wire.version import Version

SHOWN_ITEMS = 8
READ_ITEMS = 20
QUIET_VERBS = frozenset({"visit", "impression", "dwell"})
WAIT_S = 8.0
CHANGES_SAID_MAX = 3


@dataclass(frozen=True, slots=True)
class Shown:
    """The visitor's feed at one version."""

    version: Version
    generated_at_ms: int
    entries: tuple[FeedEntry, ...]

    @classmethod
    def of(cls, page: FeedPage) -> Shown | None:
        """None for a fallback: it is not the visitor's own feed."""
        if page.source != "feed":
            return None
        return cls(Version.parse(page.version), page.generated_at, page.entries)


@dataclass(frozen=True, slots=True)
class Moved:
    """What the visitor did, and their feed before and after."""

    act: str
    before: Shown
    after: Shown

    def said(self) -> str:
        """One line for the log of events."""
        changes = moves([e.id for e in self.before.entries], [e.id for e in self.after.entries])
        return f"you {self.act}: " + ("; ".join(changes[:CHANGES_SAID_MAX]) or "the order stays")


def moves(before: Sequence[str], after: Sequence[str], top: int = SHOWN_ITEMS) -> list[str]:
    """What changed within the top, the largest moves first; what only made room is not told.

    >>> moves(["a", "b", "c", "d"], ["d", "a", "b", "e"], top=4)
    ['d 4→1', 'e new at 4', 'c has left']
    """
    was = {item: place for place, item in enumerate(before, 1)}
    now = {item: place for place, item in enumerate(after, 1)}
    risen = [(was[i] - now[i], i) for i in after[:top] if i in was and now[i] < was[i]]
    told = [f"{i} {was[i]}→{now[i]}" for rise, i in sorted(risen, key=lambda r: (-r[0], now[r[1]]))]
    told += [f"{i} new at {now[i]}" for i in after[:top] if i not in was]
    told += [f"{i} has left" for i in before[:top] if i not in now]
    return told


@dataclass(slots=True)
class Visitor:
    """Watches the visitor's feed. `shown` is the newest; `moved` what their last act has changed."""

    reader: FeedReader
    shown: Shown | None = None
    moved: Moved | None = None
    _waiting: tuple[ForeignAct, Shown, float] | None = field(default=None)

    def did(self, acts: Sequence[ForeignAct], now_s: float) -> list[str]:
        """Hear of acts; those of the visitor that change a feed are waited for. Returns what they were."""
        said = []
        for act in acts:
            fields = act.fields
            if fields.get("actor") == VISITOR and fields.get("verb") not in QUIET_VERBS:
                said.append(f"you {told(act)}")
                if self.shown is not None:
                    self._waiting = (act, self.shown, now_s)
        return said

    def look(self, now_s: float) -> Moved | None:
        """Read the feed; what moved, when this is the first feed that knows of the awaited act."""
        try:
            page = self.reader.page(VISITOR, limit=READ_ITEMS, record=False)
        except FeedError:
            return None
        self.shown = Shown.of(page) or self.shown
        if self._waiting is None or self.shown is None:
            return None
        act, before, since_s = self._waiting
        if self.shown.version.position > act.offset:
            self._waiting, self.moved = None, Moved(told(act), before, self.shown)
            return self.moved
        if now_s - since_s > WAIT_S:
            self._waiting = None
        return None


def told(act: ForeignAct) -> str:
    """An act in the words of the log: `like item-3`."""
    verb = act.fields.get("undone_verb") or act.fields.get("verb")
    undone = "undo " if act.fields.get("verb") == "undo" else ""
    return f"{undone}{verb} {act.fields.get('object')}"
