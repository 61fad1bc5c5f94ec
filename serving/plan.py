"""How a page is read, without doing it: a generator that yields batches of commands and takes their replies.

    plan = page_plan(request, namespace, now_ms)
    batch = next(plan)
    while True:
        batch = plan.send(run(batch))      # StopIteration.value is the FeedPage

The sync and the async reader drive the same plan. A page is usually two batches: read, and remember what is
served. The rules are in docs/reading.md.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from serving import marks as marked
from serving.checks import checked
from serving.errors import OlderThanAskedError
from serving.marks import Command, Marks
from serving.pages import (
    FEED,
    GLOBAL,
    REASONS,
    TOPIC,
    Dropped,
    FeedEntry,
    FeedPage,
    PageRequest,
    Reason,
    slate_id,
)
from serving.stored import Reply, Stored, Window, of_version, parse
from wire.cursor import Cursor
from wire.names import Namespace
from wire.version import Version

PIN_TTL_S = 900
SNAPSHOT_TTL_S = 900
RETURNING_AFTER_MS = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class Batch:
    """Commands for one round trip. `atomic`: all keys are one user's; run them in one MULTI where that can
    be done (a Cluster pipeline can't: the order of the commands keeps the worst case a `restarted`)."""

    commands: tuple[Command, ...]
    atomic: bool = True


Plan = Generator[Batch, list[Reply], FeedPage]
Step = Generator[Batch, list[Reply], None]


def page_plan(request: PageRequest, namespace: str, now_ms: int, generation: int = 0) -> Plan:
    """The plan of one page of `request.user`, whose route of this generation (0: there is none) leads to
    `namespace`; ends with the page.

    Raises WrongRequestError, WrongCursorError, OlderThanAskedError.
    """
    return _Reading(request, Namespace(namespace), now_ms, generation).run()


class _Reading:
    """One page on its way: where we read (`source`, `offset`, `mark`), what is found, what is shown."""

    def __init__(self, request: PageRequest, names: Namespace, now_ms: int, generation: int) -> None:
        self.request, self.names, self.now_ms, self.generation = request, names, now_ms, generation
        self.cursor = checked(request)
        self.source, self.reason = FEED, REASONS[0]
        self.offset, self.mark = 0, 0
        self.restarted = False
        self.stored: Stored | None = None
        self.marks = Marks({}, frozenset())
        self.elsewhere: Namespace | None = None
        self.topic = request.topic
        self.shown: list[FeedEntry] = []
        self.dropped: list[Dropped] = []

    def run(self) -> Plan:
        """Open the feed, fill the page, go on to fallbacks while it is empty, remember what is served."""
        old_feed = yield from self._open()
        yield from self._fill()
        while not self.shown and self.source != GLOBAL:
            yield from self._open_fallback(self._next_source(), self.reason or "past_the_end")
            yield from self._fill()
        if not self.shown and old_feed:
            self._at(FEED, "", old_feed)
            yield from self._fill()
        if self.shown and self.request.record:
            yield Batch(tuple(self._served()))
        return self._finished()

    # where to read

    def _open(self) -> Generator[Batch, list[Reply], Stored | None]:
        """Set `stored` to the first window. Returns a feed to come back to when no fallback has anything."""
        cursor = self.cursor
        if cursor is None:
            return (yield from self._open_head())
        self.mark = cursor.leg
        self.reason = next((r for r in REASONS if r == cursor.reason), "")
        moved = cursor.namespace != self.names.name
        if moved and self.request.record:
            self.elsewhere = Namespace(cursor.namespace)
        if cursor.source != FEED:
            yield from self._reopen_fallback(cursor, moved)
            return None
        older = self._older(cursor.version)
        if not moved and not older:
            yield from self._reopen(cursor)
        if self.stored is None:
            self.restarted, self.mark = True, cursor.leg + 1
            return (yield from self._open_head())
        return None

    def _open_head(self) -> Generator[Batch, list[Reply], Stored | None]:
        """The newest feed, pinned so that the pages after this one stay with it."""
        request, window = self.request, Window.of(0, self.request.limit)
        surface, user = request.surface, request.user
        pin: tuple[Command, ...] = (("SET", self.names.pin(surface, user), 1, "EX", PIN_TTL_S),)
        replies = yield Batch(
            (
                *marked.read_commands(self.names, surface, user, self.elsewhere),
                *(pin if request.record else ()),
                window.command(self.names.feed(surface, user)),
            )
        )
        self.marks = marked.parse(replies, request.record, self.elsewhere)
        self.mark = self.mark or max(self.now_ms, self.marks.last_leg + 1)
        try:
            head = parse(replies[-1], window)
        except ValueError:
            yield from self._open_fallback(self._next_source(), "damaged")
            return None
        reason = self._why_not(head)
        if reason:
            self.topic = self.topic or (head.topics[0] if head and head.topics else None)
            yield from self._open_fallback(self._next_source(), reason)
            return head if reason == "returning" else None
        self._at(FEED, "", head)
        return None

    def _why_not(self, head: Stored | None) -> Reason:
        """Why the newest feed is not shown; "" when it is."""
        wanted = self.request.min_version
        if wanted is not None and (head is None or self._older(head.version)):
            if self.request.older == "raise":
                raise OlderThanAskedError(self._reported(head.version) if head else None, wanted)
            return "older_than_min_version"
        if head is None:
            return "no_feed"
        away = self.request.record and self.now_ms > head.generated_at + RETURNING_AFTER_MS
        return "returning" if away else ""

    def _reported(self, version: str) -> str:
        """Promotes and rollbacks count in what readers compare; heads and cursors keep what was written."""
        return Version.reported(version, self.generation)

    def _older(self, version: str) -> bool:
        wanted = self.request.min_version
        return wanted is not None and self._reported(version) < wanted

    def _reopen(self, cursor: Cursor) -> Step:
        """The version that the cursor names: still the head, or kept as a snapshot; else nothing."""
        request, window = self.request, Window.of(cursor.offset, self.request.limit)
        surface, user = request.surface, request.user
        snapshot = self.names.snapshot(surface, user, cursor.version)
        replies = yield Batch(
            (
                *marked.read_commands(self.names, surface, user),
                ("EXPIRE", self.names.pin(surface, user), PIN_TTL_S),
                window.command(self.names.feed(surface, user)),
                window.command(snapshot),
                ("EXPIRE", snapshot, SNAPSHOT_TTL_S),
            )
        )
        self.marks = marked.parse(replies, request.record)
        self._at(FEED, "", of_version(cursor.version, window, replies[3:5]))
        self.offset = cursor.offset

    def _reopen_fallback(self, cursor: Cursor, moved: bool) -> Step:
        """Fallbacks are not pinned: when it was refreshed, begin the new one without what was served."""
        self.source = cursor.source
        self.offset = cursor.offset
        window = Window.of(cursor.offset, self.request.limit)
        replies = yield Batch(
            (
                *marked.read_commands(self.names, self.request.surface, self.request.user, self.elsewhere),
                window.command(self._fallback_key(cursor.source)),
            ),
            atomic=False,
        )
        self.marks = marked.parse(replies, self.request.record, self.elsewhere)
        self.stored = of_version("", window, replies[-1:])
        if moved or (self.stored and cursor.version not in ("", self.stored.version)):
            self.restarted = True
            yield from self._open_fallback(cursor.source, self.reason)

    def _open_fallback(self, source: str, reason: Reason) -> Step:
        """A new stretch of pages: what was served before it began is filtered, the same at every retry."""
        window = Window.of(0, self.request.limit)
        replies = yield Batch((window.command(self._fallback_key(source)),))
        self.mark += 1
        self._at(source, reason, of_version("", window, replies))

    def _at(self, source: str, reason: Reason, stored: Stored | None) -> None:
        self.source, self.reason, self.stored = source, reason, stored
        self.offset = 0
        self.dropped.clear()
        if stored and source == FEED and stored.topics and not self.topic:
            self.topic = stored.topics[0]

    def _next_source(self) -> str:
        return f"{TOPIC}{self.topic}" if self.source == FEED and self.topic else GLOBAL

    def _fallback_key(self, source: str) -> str:
        topic = source.removeprefix(TOPIC) if source.startswith(TOPIC) else None
        return self.names.fallback(self.request.surface, topic)

    # what to show

    def _fill(self) -> Step:
        """Take entries until the page is full or the source is exhausted."""
        while self.stored:
            self._take(self.stored)
            if len(self.shown) == self.request.limit or self.offset >= self.stored.count:
                return
            more = yield from self._next_window(self.stored.version)
            if more is None:  # replaced meanwhile, and not pinned: the next page restarts
                return
            if not more.entries:  # fewer entries than it claims
                self.offset = self.stored.count
                return
            self.stored = more

    def _take(self, stored: Stored) -> None:
        for entry in stored.entries[self.offset - stored.start :]:
            if len(self.shown) == self.request.limit:
                return
            why = self.marks.verdict(entry, self.mark)
            if why:
                self.dropped.append(Dropped(self.offset, entry.id, why))
            else:
                self.shown.append(FeedEntry.of(entry, len(self.shown), self.offset))
            self.offset += 1

    def _next_window(self, version: str) -> Generator[Batch, list[Reply], Stored | None]:
        window = Window.of(self.offset, self.request.limit)
        surface, user = self.request.surface, self.request.user
        if self.source == FEED:
            keys = [self.names.feed(surface, user), self.names.snapshot(surface, user, version)]
        else:
            keys = [self._fallback_key(self.source)]
        replies = yield Batch(tuple(window.command(key) for key in keys))
        return of_version(version, window, replies)

    def _served(self) -> list[Command]:
        surface, user = self.request.surface, self.request.user
        legs = self.marks.carried | {entry.id: self.mark for entry in self.shown}
        return marked.served_commands(self.names, surface, user, legs, self.now_ms)

    # what to say

    def _finished(self) -> FeedPage:
        stored, request = self.stored, self.request
        page = self.cursor.page if self.cursor else 0
        version = stored.version if stored else ""
        return FeedPage(
            user=request.user,
            surface=request.surface,
            namespace=self.names.name,
            source=self.source,
            reason=self.reason,
            version=self._reported(version) if self.source == FEED else version,
            generated_at=stored.generated_at if stored else 0,
            stale_after=stored.stale_after if stored else 0,
            stale=bool(stored and self.source == FEED and self.now_ms > stored.stale_after),
            restarted=self.restarted,
            policy=stored.policy if stored else "",
            model=stored.model if stored else "",
            page=page,
            slate_id=slate_id(request.surface, self.names.name, version, page, self.source),
            entries=tuple(self.shown),
            dropped=tuple(self.dropped),
            cursor=self._next_cursor(version, page + 1),
        )

    def _next_cursor(self, version: str, page: int) -> str | None:
        name, surface, user = self.names.name, self.request.surface, self.request.user
        if self.stored and self.offset < self.stored.count:
            place = (version, self.offset, page, self.mark, self.reason, self.source)
        elif self.source == GLOBAL:
            return None
        else:
            reason = self.reason or "past_the_end"
            place = ("", 0, page, self.mark + 1, reason, self._next_source())
        return Cursor(name, surface, *place).encode(user)
