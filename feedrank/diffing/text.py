"""The report of `feedrank diff` for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from feedrank.diffing.report import said

SHOWN = ("mean", "p5", "p25", "p50", "p75", "p95")
NAMED = {
    "rank_biased": "rank-biased overlap",
    "tau": "Kendall tau, common items",
    "entered": "items in",
    "left": "items out",
    "score_change": "score change (mean)",
    "score_change_size": "score change (size)",
}


def show(found: Mapping[str, Any], console: Console) -> None:
    """Print everything but the plots."""
    for line in summary(found):
        console.print(line, highlight=False)
    console.print(_measures(found))
    for title, key in (
        (f"items that came with {found['b']}", "entered"),
        (f"items that went with {found['b']}", "left"),
    ):
        if found[key]:
            console.print(_items(title, found[key]))
    for one in found["most_changed"]:
        console.print(_user(found, one))


def summary(found: Mapping[str, Any]) -> list[str]:
    """What was compared, in sentences."""
    users = found["users"]
    a, b = found["a"], found["b"]
    chosen = f", a sample of {users['sample']} (seed {users['seed']})" if users["sample"] else ""
    lines = [
        f"{a} (A) against {b} (B) on {found['surface']}: {users['compared']:,} users compared{chosen}",
        f"{users['common']:,} have feeds in both, {users['a'] - users['common']:,} only in {a}, "
        f"{users['b'] - users['common']:,} only in {b}",
        f"{found['equal']:,} feeds are the same, {found['same_time']:,} were ranked for the same moment",
    ]
    if found["same_time"] < users["compared"]:
        lines.append("feeds of different moments differ by time alone; `feedrank settle` ranks at one time")
    if users["both_empty"] or users["gone_meanwhile"]:
        lines.append(
            f"left out: {users['both_empty']:,} with two empty feeds, {users['gone_meanwhile']:,} whose feed "
            "went away meanwhile"
        )
    return lines


def named(measure: str, p: float) -> str:
    """What a measure is called."""
    name = NAMED.get(measure, measure)
    return f"{name}, p={p:g}" if measure == "rank_biased" else name


def _measures(found: Mapping[str, Any]) -> Table:
    table = Table(title="per user", title_justify="left")
    table.add_column("measure")
    for column in (*SHOWN, "users"):
        table.add_column(column, justify="right")
    for name, spread in found["measures"].items():
        values = (number(spread[column]) for column in SHOWN)
        table.add_row(named(name, found["p"]), *values, f"{spread['users']:,}")
    return table


def number(value: float | None) -> str:
    """Three digits, or a dash where there is none."""
    return "–" if value is None else f"{value:.3g}"


def _items(title: str, items: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("feeds", justify="right")
    table.add_column("item")
    table.add_column("title")
    for item in items:
        table.add_row(f"{item['feeds']:,}", escape(item["item"]), escape(item["title"] or ""))
    return table


def _user(found: Mapping[str, Any], one: Mapping[str, Any]) -> Table:
    overlaps = ", ".join(f"overlap@{k} {number(value)}" for k, value in one["overlap"].items())
    title = (
        f"{escape(one['user'])}: rank-biased {number(one['rank_biased'])}, tau {number(one['tau'])}, "
        f"{overlaps}, {one['entered']} in, {one['left']} out\n"
        f"  A: {escape(one['a']['known'])}\n  B: {escape(one['b']['known'])}"
    )
    table = Table(title=title, title_justify="left")
    for column in ("A", "B", "score A", "score B"):
        table.add_column(column, justify="right")
    table.add_column("item")
    table.add_column("what moved it (doublings beyond the usual)")
    for item in one["items"]:
        ranks = (str(item[side] or "–") for side in ("rank_a", "rank_b"))
        scores = (number(item[side]) for side in ("score_a", "score_b"))
        table.add_row(*ranks, *scores, escape(item["title"] or item["item"]), escape(said(item)))
    return table
