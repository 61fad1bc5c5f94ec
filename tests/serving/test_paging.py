"""Whatever happens between pages: no item twice, none missing while the version is kept, all said."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.pages import FeedPage
from serving.reader import FeedReader
from tests.serving.feed_store import FOR_YOU, FeedStore, entry, version

POOL = [f"i{i}" for i in range(90)]
FEED = st.lists(st.sampled_from(POOL), unique=True, min_size=1, max_size=90)
EVENTS = ("write", "write", "unpin", "drop_snapshots", "fallback", "retry", "peek")


class Session:
    """One reader paging to the end while others write; what it saw, page by page."""

    def __init__(self, url: str) -> None:
        self.user = uuid.uuid4().hex
        self.store = FeedStore(url, f"t{self.user[:12]}")
        self.reader = FeedReader.from_url(url, namespace=self.store.names.name)
        self.written: dict[str, list[str]] = {}
        self.number = 0
        self.pages: list[FeedPage] = []

    def write(self, items: list[str]) -> None:
        self.number += 1
        self.written[version(self.number)] = items
        now_ms = time.time_ns() // 1_000_000
        assert self.store.write(self.user, self.number, [entry(i) for i in items], now_ms) == 1

    def unpin(self) -> None:
        self.store.redis.delete(self.store.names.pin(FOR_YOU, self.user))

    def drop_snapshots(self) -> None:
        for text in self.written:
            self.store.redis.delete(self.store.names.snapshot(FOR_YOU, self.user, text))

    def page(self, limit: int, cursor: str | None) -> FeedPage:
        page = self.reader.page(self.user, limit=limit, cursor=cursor)
        self.pages.append(page)
        return page


def run(session: Session, data: st.DataObject, events: tuple[str, ...]) -> None:
    """Page to the end with an event before every page."""
    limit = data.draw(st.integers(1, 40))
    act: dict[str, Callable[[], object]] = {
        "write": lambda: session.write(data.draw(FEED)),
        "unpin": session.unpin,
        "drop_snapshots": session.drop_snapshots,
        "fallback": lambda: session.store.write_fallback(
            session.number + len(session.pages), data.draw(FEED), time.time_ns() // 1_000_000
        ),
        "peek": lambda: session.reader.page(session.user, record=False),
    }
    session.write(data.draw(FEED))
    cursor = session.page(limit, None).cursor
    for _ in range(30):
        if cursor is None:
            break
        event = data.draw(st.sampled_from(events))
        if event == "retry":
            session.page(limit, cursor)
            retried = session.pages.pop()
            page = session.page(limit, cursor)
            assert page.entries == retried.entries
        else:
            act[event]()
            page = session.page(limit, cursor)
        cursor = page.cursor
    session.reader.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(data=st.data())
def test_no_item_comes_twice_whatever_happens(redis_url: str, data: st.DataObject) -> None:
    session = Session(redis_url)
    run(session, data, EVENTS)
    shown = [e.id for page in session.pages for e in page.entries]
    assert len(shown) == len(set(shown))
    for before, after in zip(session.pages, session.pages[1:], strict=False):
        moved = after.version != before.version and after.source == before.source
        assert after.restarted == moved, "a change of version is said, and only that"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(data=st.data())
def test_pages_add_up_to_the_first_version_while_it_is_kept(redis_url: str, data: st.DataObject) -> None:
    session = Session(redis_url)
    run(session, data, ("write", "retry", "peek"))
    own = [e.id for page in session.pages for e in page.entries if page.source == "feed"]
    assert own == session.written[version(1)]
    assert not any(page.restarted for page in session.pages)
