"""The report of `feedrank diff` as one page that needs nothing else: no scripts, fonts or addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from feedrank.diffing.plots import by_depth, histogram, slopes
from feedrank.diffing.report import AT, said
from feedrank.diffing.text import named, number, summary

STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #5b6475; --ground: #ffffff; --raised: #f4f6fa;
  --edge: #d5dae3; --bar: #3565c4; --band: #3565c433; --up: #1c7c4a; --down: #b4482a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8f0; --soft: #9aa4b5; --ground: #14171d;
  --raised: #1d2129; --edge: #343b47; --bar: #7aa2ee; --band: #7aa2ee33; --up: #62c492; --down: #ee8f70; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 24px 16px 64px; background: var(--ground);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0 0 8px; } h2 { font-size: 18px; margin: 36px 0 8px; }
h3 { font-size: 15px; margin: 0 0 4px; overflow-wrap: anywhere; }
p { margin: 4px 0; } .soft { color: var(--soft); }
.row { display: flex; flex-wrap: wrap; gap: 16px; }
.row > figure { flex: 1 1 220px; } .row > .wide { flex: 1 1 420px; } .wide { overflow-x: auto; }
section.user { background: var(--raised); border: 1px solid var(--edge); border-radius: 8px; padding: 16px;
  margin: 16px 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 4px 8px; border-bottom: 1px solid var(--edge); vertical-align: top; }
th { color: var(--soft); font-weight: 500; white-space: nowrap; }
td.text, th.text { text-align: left; overflow-wrap: anywhere; min-width: 9em; }
figure { margin: 8px 0; overflow-x: auto; } figcaption { color: var(--soft); font-size: 13px; }
svg { display: block; max-width: 100%; height: auto; } section.user svg { max-width: none; }
.bar { fill: var(--bar); } .band { fill: var(--band); } .line { fill: none; stroke: var(--bar);
  stroke-width: 2; } .axis { stroke: var(--edge); }
.label { fill: var(--ink); font-size: 11px; } .gone, .came { font-weight: 700; }
.same { stroke: var(--edge); stroke-width: 1.5; } .up { stroke: var(--up); stroke-width: 1.5; }
.down { stroke: var(--down); stroke-width: 1.5; }
"""


def page(found: Mapping[str, Any]) -> str:
    """The whole page; every text of the data is escaped."""
    title = f"{found['a']} against {found['b']}"
    lines = "".join(f"<p>{escape(line)}.</p>" for line in summary(found))
    plots = "".join(
        histogram(named(name, found["p"]), spread)
        for name, spread in found["measures"].items()
        if "histogram" in spread
    )
    users = "".join(_user(one) for one in found["most_changed"])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1>{lines}{_made_by(found)}"
        f'<h2>How much they agree</h2><div class="row">{plots}</div>'
        f"{by_depth(found['overlap_by_depth'])}{_measures(found)}"
        f"<h2>Items that came and went</h2>{_came_and_went(found)}"
        f"<h2>Users whose feeds changed most</h2>{users or '<p>No feed changed.</p>'}"
        f"</body></html>\n"
    )


def _made_by(found: Mapping[str, Any]) -> str:
    told = []
    for side in ("a", "b"):
        made = ", ".join(
            f"{what} {name} ({count:,} feeds)"
            for what, key in (("policy", "policies"), ("model", "models"))
            for name, count in found[key][side].items()
        )
        told.append(f'<p class="soft">{side.upper()}: {escape(made)}</p>')
    return "".join(told)


def _table(head: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]]) -> str:
    """`head`: names, and whether the column is text."""
    kinds = [' class="text"' if text else "" for _, text in head]
    top = "".join(f"<th{kind}>{escape(name)}</th>" for (name, _), kind in zip(head, kinds, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{escape(value)}</td>" for value, kind in zip(row, kinds, strict=True))
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _measures(found: Mapping[str, Any]) -> str:
    columns = ["mean", *(f"p{at}" for at in AT)]
    head = [("per user", True), *((column, False) for column in columns), ("users", False)]
    rows = [
        [named(name, found["p"]), *(number(spread[column]) for column in columns), f"{spread['users']:,}"]
        for name, spread in found["measures"].items()
    ]
    return _table(head, rows)


def _came_and_went(found: Mapping[str, Any]) -> str:
    tables = []
    for key, told in (("entered", "came"), ("left", "went")):
        head = [("feeds", False), (f"item that {told}", True), ("title", True)]
        rows = [[f"{one['feeds']:,}", one["item"], one["title"] or ""] for one in found[key]]
        tables.append(_table(head, rows) if rows else f"<p>None {told}.</p>")
    return f'<div class="row">{"".join(tables)}</div>'


def _user(one: Mapping[str, Any]) -> str:
    overlaps = ", ".join(f"overlap@{k} {number(value)}" for k, value in one["overlap"].items())
    told = (
        f"rank-biased {number(one['rank_biased'])}, tau {number(one['tau'])}, {overlaps}; "
        f"{one['entered']} in, {one['left']} out"
    )
    head = [("A", False), ("B", False), ("score A", False), ("score B", False), ("item", True)]
    head.append(("what moved it (doublings beyond the usual)", True))
    rows = [
        [
            str(item["rank_a"] or "–"),
            str(item["rank_b"] or "–"),
            number(item["score_a"]),
            number(item["score_b"]),
            item["title"] or item["item"],
            said(item),
        ]
        for item in one["items"]
    ]
    sides = "".join(
        f'<p class="soft">{side.upper()}: {escape(one[side]["version"])}, {one[side]["entries"]} entries; '
        f"{escape(one[side]['known'])}</p>"
        for side in ("a", "b")
    )
    return (
        f'<section class="user"><h3>{escape(one["user"])}</h3><p>{escape(told)}</p>{sides}'
        f"{slopes(one)}{_table(head, rows)}</section>"
    )
