"""Rows in words for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

SPANS = {"m5": "last hour, by 5 min", "h1": "last day, by hour", "d1": "last week, by day"}
PLAIN = {
    "exposure": "shown",
    "weak": "weak",
    "strong": "strong",
    "negative": "negative",
    "dwell_s": "dwell (s)",
}


def when(ms: int) -> str:
    """A time for people; 0: never."""
    return datetime.fromtimestamp(ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if ms else "never"


def show_user(found: Mapping[str, Any], console: Console) -> None:
    """Everything of a user's rows."""
    session = found["session"]
    _lines(
        console,
        f"user {found['user']} (fp64 {found['fp64']}), partition {found['partition']}, rows up to offset "
        f"{found['position']}",
        f"{found['records']:,} records, the newest event {when(found['newest_ms'])}, last reason for a new "
        f"feed {when(found['last_signal_ms'])}",
        f"session since {when(session['began_ms'])}, {session['depth']} engagements deep",
    )
    _windows(found, console)
    _lines(console, f"{found['engaged']:,} engagements; {_merged(found)}")
    _table(console, "last engagements, newest first", ("at", "verb", "item", "in interests"), (
        (when(one["at_ms"]), one["verb"], one["item"], "yes" if one["merged"] else "at ranking")
        for one in found["engagements"]
    ))  # fmt: skip
    for kind in ("author", "topic"):
        _table(console, f"{kind}s", (kind, "liked", "disliked"), (
            (one[kind], f"{one['liked']:g}", f"{one['disliked']:g}") for one in found[f"{kind}s"]
        ))  # fmt: skip
    seen = found["seen"]
    _lines(console, f"{seen['exposures']:,} exposures; of the last 512, {seen['items']:,} items still count")
    _table(console, "shown most often", ("times", "last day", "item"), (
        (str(one["times"]), when(one["last_day_ms"])[:10], one["item"]) for one in seen["most"]
    ))  # fmt: skip
    for name, edges in found["graph"].items():
        _table(console, f"{name}: {edges['count']:,}, newest first", ("day", "kind", "name"), (
            (when(one["day_ms"])[:10], one["kind"], one["name"]) for one in edges["newest"]
        ))  # fmt: skip


def show_item(found: Mapping[str, Any], console: Console) -> None:
    """Everything of an item's row."""
    topics = ", ".join(found["topics"] or ()) or "none"
    said = (
        f"{found['title'] or 'no title'}, by {found['author']}, topics {topics}, "
        f"created {when(found['created_ms'])}"
        if found["author"] is not None
        else "the items topic does not hold it (now), or names were not asked for"
    )
    _lines(
        console,
        f"item {found['item']} (fp64 {found['fp64']}), partition {found['partition']} of item rows, rows up "
        f"to offset {found['position']} of item deltas",
        said,
        f"newest count {when(found['newest_ms'])}; engaged from {when(found['first_engaged_ms'])} to "
        f"{when(found['last_engaged_ms'])}",
    )
    _windows(found, console)
    _lines(
        console,
        f"impressions of the week, each as much as its place is looked at: {found['examined_7d']:,.1f}",
    )
    _table(console, "last engagers, newest first (fp48 of the user)", ("at", "user", ""), (
        (when(one["at_ms"]), one["user_fp48"], "withdrawn" if one["withdrawn"] else "")
        for one in found["engagers"]
    ))  # fmt: skip


def _merged(found: Mapping[str, Any]) -> str:
    return (
        f"interests merged up to {when(found['merged_s'] * 1_000)}, embedding norm {found['embedding_norm']}"
    )


def _windows(found: Mapping[str, Any], console: Console) -> None:
    table = Table(title=f"as of {when(found['as_of_ms'])}", title_justify="left")
    table.add_column("")
    for name, ring in found["windows"].items():
        table.add_column(SPANS[name] + ("" if ring["whole"] else " *"))
    table.add_column("half-life 30 d", justify="right")
    roles = list(dict.fromkeys(role for ring in found["windows"].values() for role in ring["sums"]))
    for role in roles:
        cells = [
            f"{ring['sums'][role]:>6,} |{ring['bars'][role]}|" if role in ring["sums"] else ""
            for ring in found["windows"].values()
        ]
        long = found["long"].get(role)
        table.add_row(PLAIN[role], *cells, "" if long is None else f"{long:,.2f}")
    console.print(table, highlight=False)
    if not all(ring["whole"] for ring in found["windows"].values()):
        _lines(console, "* in part: the row has gone on since and forgot the oldest of these buckets")


def _lines(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(escape(line), highlight=False)


def _table(console: Console, title: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Nothing where there are no rows."""
    table = Table(*head, title=escape(title), title_justify="left")
    for row in rows:
        table.add_row(*map(escape, row))
    if table.row_count:
        console.print(table, highlight=False)
