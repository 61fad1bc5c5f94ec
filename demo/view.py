"""The terminal view: a picture of a Snapshot with rich, for 80 x 24 and more."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from demo.click_through import Rate
from demo.command import feedrank_here
from demo.groups import GROUPS
from demo.snapshot import Snapshot, clock, gained, milliseconds, with_interval
from demo.visitor import SHOWN_ITEMS, Moved, Shown

FULL_BAR = 0.5
BAR_CHARS = 24
WIDE_CHARS = 120
TALL_LINES = 34
EVENTS_SHOWN = 4
CHROME_LINES = 20
"""Lines that everything but the events takes on a small terminal."""
GROUP_STYLE = {"ranked": "bold green", "oracle": "dim"}


class View:
    """Renders `snapshot`, whatever it is at the moment, to the size of the terminal."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        s = self.snapshot
        width, height = options.max_width, console.size.height
        tall = height >= TALL_LINES
        yield Group(*_header(s))
        if tall:
            yield Text()
        yield _groups(s)
        if tall:
            yield Text()
        yield from _feed(s, wide=width >= WIDE_CHARS)
        if s.moved and tall:
            yield Text()
            yield from _moved(s.moved, width >= WIDE_CHARS)
        if tall:
            yield Text()
        rest = height - CHROME_LINES - (SHOWN_ITEMS + 8 if tall else 0)
        yield from _events(s, max(EVENTS_SHOWN - 1, min(rest, 12)))


def _header(s: Snapshot) -> list[RenderableType]:
    end = f" of {clock(s.duration_s)}" if s.duration_s else ", until Ctrl-C"
    state = "" if s.worker_up else "  [bold red]worker down[/]"
    lines = [
        f"[bold]feedrank demo[/]  {clock(s.elapsed_s)}{end}  {escape(s.phase)}{state}  "
        f"[bold cyan]{escape(s.url)}[/]",
        f"[bold]{s.activities_per_s:,.0f}[/] activities/s   lag [bold]{s.lag:,}[/]   "
        f"[bold]{s.feeds_per_s:,.0f}[/] feeds/s   event to Redis p50 [bold]{milliseconds(s.p50_s)}[/] "
        f"p99 [bold]{milliseconds(s.p99_s)}[/]",
        f"{s.items:,} items   duplicates {s.duplicates:,}   undone {s.undone:,}   dead letters {s.dead:,}   "
        f"waiting to be ranked {s.due:,}",
    ]
    return [Text.from_markup(line, overflow="ellipsis") for line in lines]


def _groups(s: Snapshot) -> RenderableType:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, overflow="crop")
    table.add_row("[bold]clicks per impression[/]", "95 % interval", "", "")
    for group in GROUPS:
        rate = s.groups.get(group, Rate())
        bar = "█" * round(min(1.0, rate.value / FULL_BAR) * BAR_CHARS)
        style = GROUP_STYLE.get(group)
        table.add_row(f"  {group}", with_interval(rate), f"{rate.impressions:,}", bar, style=style)
    table.add_row("  ranked - chronological", gained(s.gain()), "", "")
    return table


def _feed(s: Snapshot, wide: bool) -> RenderResult:
    age = ""
    if s.shown is not None:
        age = f", {max(0.0, (s.now_ms - s.shown.generated_at_ms) / 1_000):.1f} s old"
    example = s.shown.entries[0].id if s.shown and s.shown.entries else "ITEM"
    at = "" if s.url.endswith(":8080/") or not s.url else f" --api {s.url}"
    yield Text.from_markup(
        f"[bold]your feed[/] (user you{age})   [dim]{escape(feedrank_here())} act you like {example}{at}[/]",
        overflow="ellipsis",
    )
    if s.shown is None:
        yield Text("  not there yet")
        return
    yield _entries(s.shown, wide)


def _entries(shown: Shown, wide: bool) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, expand=True)
    table.add_column(justify="right", width=3)
    table.add_column(no_wrap=True, ratio=5, overflow="ellipsis")
    if wide:
        table.add_column(no_wrap=True, width=15)
        table.add_column(justify="right", width=7)
    table.add_column(no_wrap=True, ratio=6, overflow="ellipsis", style="italic")
    for place, entry in enumerate(shown.entries[:SHOWN_ITEMS], 1):
        title = f"{entry.id} {entry.title or ''}"
        more = (escape(entry.source), f"{entry.score:.3f}") if wide else ()
        table.add_row(str(place), escape(title), *more, escape("; ".join(entry.why)))
    return table


def _moved(moved: Moved, wide: bool) -> RenderResult:
    yield Text.from_markup(f"[bold]before and after[/]: you {escape(moved.act)}")
    table = Table(box=None, pad_edge=False, show_header=False, expand=True)
    table.add_column(justify="right", width=3)
    table.add_column(no_wrap=True, ratio=1, overflow="ellipsis", style="dim")
    table.add_column(no_wrap=True, ratio=1, overflow="ellipsis")
    was = {entry.id: place for place, entry in enumerate(moved.before.entries, 1)}
    for k in range(SHOWN_ITEMS):
        old = moved.before.entries[k : k + 1]
        new = moved.after.entries[k : k + 1]
        left = f"{old[0].id} {old[0].title or ''}" if old else ""
        right = ""
        if new:
            place = was.get(new[0].id)
            arrow = (
                "new"
                if place is None
                else "="
                if place == k + 1
                else f"{'↑' if place > k + 1 else '↓'}{place}"
            )
            why = "; ".join(new[0].why) if wide else ""
            right = f"{arrow:>4} {new[0].id} {new[0].title or ''}  {why}"
        table.add_row(str(k + 1), escape(left), escape(right))
    yield table


def _events(s: Snapshot, count: int) -> RenderResult:
    yield Text("what happened", style="bold")
    for second, said in s.events[-count:]:
        yield Text(f"  {clock(second)} {said}", overflow="ellipsis", no_wrap=True)
