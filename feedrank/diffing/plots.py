"""Plots of `feedrank diff` as inline SVG: no scripts, nothing from elsewhere, colours of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT, EDGE = 320, 150, 24
SLOPE_ROW, SLOPE_WIDTH = 18, 520
LABEL_CHARS = 26


def histogram(name: str, spread: Mapping[str, Any]) -> str:
    """How many users lie in each bin."""
    edges, users = spread["histogram"]["edges"], spread["histogram"]["users"]
    most = max([*users, 1])
    step = (WIDTH - 2 * EDGE) / len(users)
    bars = []
    for at, count in enumerate(users):
        height = count / most * (HEIGHT - 2 * EDGE)
        told = f"{edges[at]:.2f} to {edges[at + 1]:.2f}: {count:,} users"
        bars.append(
            f'<rect class="bar" x="{EDGE + at * step:.1f}" y="{HEIGHT - EDGE - height:.1f}" '
            f'width="{step - 1:.1f}" height="{height:.1f}"><title>{told}</title></rect>'
        )
    marks = _axis(edges[0], edges[-1]) + _text(EDGE, EDGE - 8, f"{most:,} users at most in a bar", "start")
    return _figure(name, WIDTH, HEIGHT, "".join(bars) + marks)


def by_depth(found: Sequence[Mapping[str, Any]]) -> str:
    """Mean overlap of the first d entries, within a band from the 10th to the 90th percentile."""
    wide = 2 * WIDTH
    last = max(len(found) - 1, 1)

    def place(at: int, value: float) -> str:
        return f"{EDGE + at / last * (wide - 2 * EDGE):.1f},{HEIGHT - EDGE - value * (HEIGHT - 2 * EDGE):.1f}"

    high = [place(at, one["p90"]) for at, one in enumerate(found)]
    low = [place(at, one["p10"]) for at, one in enumerate(found)]
    mean = [place(at, one["mean"]) for at, one in enumerate(found)]
    drawn = (
        f'<polygon class="band" points="{" ".join(high + low[::-1])}"/>'
        f'<polyline class="line" points="{" ".join(mean)}"/>'
        f'<line class="axis" x1="{EDGE}" y1="{EDGE}" x2="{EDGE}" y2="{HEIGHT - EDGE}"/>'
        + _text(EDGE - 4, EDGE + 4, "1", "end")
        + _text(EDGE - 4, HEIGHT - EDGE, "0", "end")
        + _axis(1, len(found), wide)
    )
    return _figure("Overlap of the first d entries: mean, and 10 to 90 % of the users", wide, HEIGHT, drawn)


def slopes(one: Mapping[str, Any]) -> str:
    """A user's first entries on both sides, joined where they are the same item."""
    a, b, titles = (one["slopes"][name] for name in ("a", "b", "titles"))
    places = {item: at for at, item in enumerate(b)}
    left_x, right_x = SLOPE_WIDTH * 0.4, SLOPE_WIDTH * 0.6
    drawn = [_text(left_x, 12, "A", "end"), _text(right_x, 12, "B", "start")]
    for at, item in enumerate(a):
        kind = "" if item in places else " gone"
        drawn.append(_text(left_x, _row(at), f"{_label(item, titles)}  {at + 1}", "end", kind))
        if item in places:
            to = places[item]
            way = "same" if to == at else "up" if to < at else "down"
            drawn.append(
                f'<line class="{way}" x1="{left_x + 6:.0f}" y1="{_row(at) - 4}" x2="{right_x - 6:.0f}" '
                f'y2="{_row(to) - 4}"/>'
            )
    held = set(a)
    for at, item in enumerate(b):
        kind = "" if item in held else " came"
        drawn.append(_text(right_x, _row(at), f"{at + 1}  {_label(item, titles)}", "start", kind))
    height = _row(max(len(a), len(b)))
    return _figure("The first entries; bold: not among the other's", SLOPE_WIDTH, height, "".join(drawn))


def _row(at: int) -> int:
    return 32 + at * SLOPE_ROW


def _label(item: str, titles: Mapping[str, str]) -> str:
    text = titles.get(item) or item
    return text if len(text) <= LABEL_CHARS else f"{text[: LABEL_CHARS - 1]}…"


def _axis(first: float, last: float, width: int = WIDTH) -> str:
    y = HEIGHT - EDGE
    line = f'<line class="axis" x1="{EDGE}" y1="{y}" x2="{width - EDGE}" y2="{y}"/>'
    ends = ((EDGE, first, "start"), (width / 2, (first + last) / 2, "middle"), (width - EDGE, last, "end"))
    return line + "".join(_text(x, y + 14, f"{value:g}", anchor) for x, value, anchor in ends)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    return f'<text class="label{kind}" x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(text)}</text>'


def _figure(name: str, width: int, height: int, drawn: str) -> str:
    return (
        f'<figure><figcaption>{escape(name)}</figcaption><svg role="img" aria-label="{escape(name)}" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}">{drawn}</svg></figure>'
    )
