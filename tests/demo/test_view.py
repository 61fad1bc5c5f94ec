"""What the visitor sees: it fits, it says why, and it says what has moved."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from demo.click_through import Rate
from demo.command import feedrank_here
from demo.show import Lines, Picture, show_on
from demo.snapshot import Snapshot, plain, with_interval
from demo.topic_log import ForeignAct
from demo.view import View
from demo.visitor import WAIT_S, Moved, Shown, Visitor, moves
from serving.errors import FeedsUnavailableError
from serving.pages import FeedEntry, FeedPage
from wire.version import Version


def entry(place: int, item: str) -> FeedEntry:
    title = f"What nobody tells you about {item} [not markup] without the hype"
    why = ("you follow author-7", "people like it", "about jazz")
    return FeedEntry(place, place, item, "author-7", 1_000, 0.5, "in_network", why, None, title, ("jazz",))


def page(position: int, *items: str, source: str = "feed") -> FeedPage:
    version = str(Version(1, position, 3, 4_000))
    entries = tuple(entry(place, item) for place, item in enumerate(items))
    return FeedPage(
        user="you",
        surface="for_you",
        namespace="demo",
        source=source,
        reason="",
        version=version,
        generated_at=4_000,
        stale_after=9_000,
        stale=False,
        restarted=False,
        policy="p",
        model="m",
        page=0,
        slate_id="s",
        entries=entries,
        dropped=(),
        cursor=None,
    )


def shown(position: int, *items: str) -> Shown:
    found = Shown.of(page(position, *items))
    assert found is not None
    return found


ITEMS = tuple(f"item-{i}" for i in range(20))
FULL = Snapshot(
    elapsed_s=61.0,
    duration_s=90.0,
    url="http://127.0.0.1:8080/",
    activities_per_s=412.3,
    lag=12_345,
    feeds_per_s=88.0,
    p50_s=0.0184,
    p99_s=0.25,
    items=740,
    groups={g: Rate(2_000, c, 900.0) for g, c in zip(("ranked", "chronological"), (400, 300), strict=True)},
    shown=shown(5, *ITEMS),
    now_ms=5_500,
    moved=Moved("like item-9", shown(5, *ITEMS), shown(6, "item-9", "item-99", *ITEMS[:9])),
    events=tuple((float(s), f"event {s} " + "long " * 60) for s in range(30)),
)


def drawn(snapshot: Snapshot, width: int, height: int) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, force_terminal=True, color_system=None)
    view = View()
    view.snapshot = snapshot
    console.print(view)
    return out.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (140, 40), (200, 60)])
def test_the_view_fits_its_terminal_and_shows_everything(width: int, height: int) -> None:
    lines = drawn(FULL, width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for part in ("412", "12,345", "18 ms", "250 ms", "ranked - chronological", "http://127.0.0.1:8080/"):
        assert part in text
    assert "item-7" in text
    assert "you follow author-7" in text
    assert "event 29" in text
    assert "+5.0" in text


def test_a_tall_view_shows_the_order_before_and_after() -> None:
    text = "\n".join(drawn(FULL, 140, 40))
    assert "you like item-9" in text
    assert "↑10 item-9" in text
    assert "new item-99" in text


def test_the_view_can_be_drawn_before_anything_is_known() -> None:
    assert "not there yet" in "\n".join(drawn(Snapshot(), 80, 24))


def test_the_worker_being_down_is_said() -> None:
    assert "worker down" in "\n".join(drawn(replace(FULL, worker_up=False), 80, 24))


def test_without_a_terminal_there_are_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(show_on(Console(file=io.StringIO())), Lines)
    assert isinstance(show_on(Console(file=io.StringIO(), force_terminal=True)), Picture)
    feedless = replace(FULL, shown=None)
    with Lines() as show:
        show.update(replace(feedless, elapsed_s=1.0, events=((0.5, "one"),)))
        show.update(replace(feedless, elapsed_s=1.5, events=((0.5, "one"), (1.4, "two"))))
        show.update(replace(feedless, elapsed_s=3.5, events=((0.5, "one"), (1.4, "two"))))
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "0:00 one",
        plain(replace(feedless, elapsed_s=1.0)),
        "0:01 two",
        plain(replace(feedless, elapsed_s=3.5)),
    ]


def test_plain_lines_tell_the_feed_when_it_is_there_and_when_the_worker_is_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Lines() as show:
        show.update(replace(FULL, shown=None))
        assert "your feed" not in capsys.readouterr().out
        for _ in range(2):
            show.update(FULL)
        show.update(replace(FULL, worker_up=False))
        said = capsys.readouterr().out
        assert said.count("your feed") == 1
        assert "you follow author-7; people like it; about jazz" in said
        for _ in range(2):
            show.update(FULL)
    assert capsys.readouterr().out.count("your feed") == 1


def test_plain_lines_say_how_sure_click_rates_are() -> None:
    assert with_interval(FULL.groups["ranked"]) in plain(FULL)


@pytest.mark.parametrize("on_path", [True, False])
def test_commands_are_shown_as_they_can_be_typed(
    on_path: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mine = tmp_path / ".venv" / "bin" / "feedrank"
    mine.parent.mkdir(parents=True)
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(mine.parent / "python"))
    monkeypatch.setenv("PATH", str(mine.parent if on_path else tmp_path))
    monkeypatch.chdir(tmp_path)
    assert feedrank_here() == ("feedrank" if on_path else str(Path(".venv/bin/feedrank")))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert feedrank_here() == ("feedrank" if on_path else str(mine))
    mine.unlink()
    assert feedrank_here() == f"{sys.executable} -m feedrank.cli"


def test_moves_name_what_rose_what_is_new_and_what_has_left() -> None:
    assert moves(["a", "b", "c"], ["a", "b", "c"]) == []
    assert moves(["a", "b", "c"], ["c", "a", "b"]) == ["c 3→1"]
    assert moves(["a", "b"], ["b", "x"]) == ["b 2→1", "x new at 2", "a has left"]


class Reader:
    """A reader whose pages the test sets."""

    def __init__(self, *pages: FeedPage | None) -> None:
        self.pages = list(pages)

    def page(self, user: str, **options: object) -> FeedPage:
        assert (user, options["record"]) == ("you", False)
        found = self.pages.pop(0)
        if found is None:
            raise FeedsUnavailableError("away")
        return found


def like(offset: int, verb: str = "like", actor: str = "you") -> ForeignAct:
    return ForeignAct(0, offset, {"actor": actor, "verb": verb, "object": "c"})


def visitor(*pages: FeedPage | None) -> Visitor:
    return Visitor(Reader(*pages))  # type: ignore[arg-type]


def test_what_moved_is_told_by_the_first_feed_that_knows_of_the_act() -> None:
    v = visitor(page(5, "a", "b", "c"), page(9, "b", "a", "c"), None, page(10, "c", "b", "a"))
    assert v.look(0.0) is None
    assert v.did([like(9)], 1.0) == ["you like c"]
    assert v.look(1.1) is None, "a feed at position 9 has read up to offset 8"
    assert v.look(1.2) is None
    moved = v.look(1.3)
    assert moved is not None
    assert moved.said() == "you like c: c 3→1"
    assert [e.id for e in moved.before.entries] == ["a", "b", "c"]
    assert v.moved is moved


def test_acts_of_others_visits_and_fallbacks_move_nothing() -> None:
    v = visitor(page(5, "a", "b"), page(50, "b", "a"), page(60, "x", source="global"))
    v.look(0.0)
    assert v.did([like(7, actor="someone"), like(8, verb="visit")], 1.0) == []
    assert v.look(1.1) is None
    assert v.look(1.2) is None
    assert v.shown == shown(50, "b", "a")


def test_an_act_that_no_feed_answers_is_given_up() -> None:
    v = visitor(page(5, "a"), page(5, "a"), page(99, "b"))
    v.look(0.0)
    v.did([like(9)], 1.0)
    assert v.look(1.5 + WAIT_S) is None
    assert v.look(2.0 + WAIT_S) is None
