"""A comparison as one HTML page with plots: no script, no file beside it, nothing from the network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT, MARGIN = 420, 260, 44
COLOURS = 5
"""So many, --c0 and so on; a model has the same one in every plot."""
STYLE = """
:root{color-scheme:light dark;--ink:#222;--soft:#686868;--line:#ddd;--ground:#fff;
--c0:#1f6f8b;--c1:#c8553d;--c2:#588b4a;--c3:#7d5ba6;--c4:#b8860b}
@media (prefers-color-scheme:dark){:root{--ink:#e6e6e6;--soft:#a0a0a0;--line:#3a3a3a;--ground:#161616;
--c0:#5cb8d6;--c1:#ee8a74;--c2:#8cc47d;--c3:#b79be0;--c4:#dcb144}}
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:var(--ink);
background:var(--ground)}table{border-collapse:collapse;margin:.6rem 0 1.4rem}
td,th{padding:.25rem .7rem;text-align:right;border-bottom:1px solid var(--line)}
th:first-child,td:first-child{text-align:left}
.plots{display:flex;flex-wrap:wrap;gap:1.2rem}figure{margin:0}figcaption{font-size:.9rem;color:var(--soft)}
svg text{font:11px system-ui,sans-serif;fill:var(--ink)}.clear{font-weight:600}.soft{color:var(--soft)}
"""


def html(page: Mapping[str, Any]) -> str:
    """The whole page."""
    title = f"{escape(str(page['data']))}, split {escape(str(page['split']))}"
    body = "".join(_body(page))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f"<body><h1>{title}</h1>{body}</body></html>\n"
    )


def _body(page: Mapping[str, Any]) -> Iterator[str]:
    models: Sequence[Mapping[str, Any]] = page["models"]
    yield f"<p>{page['rows']} shown rows in {page['slates']} slates. Intervals are 95 %, bootstrapped over "
    yield f"users; gains are paired, over <b>{escape(page['compared_with'])}</b>.</p>"
    yield "<h2>Lists</h2>" + _lists_table(models)
    yield (
        '<div class="plots">'
        + "".join(_intervals(metric, models) for metric in _metrics(models)[:3])
        + "</div>"
    )
    yield "<h2>Segments</h2>" + _segments_table(page)
    yield "<h2>Probabilities</h2>" + _heads_table(models)
    yield '<div class="plots">' + "".join(_calibrations(models)) + "</div>"
    yield "<h2>Off-policy</h2>" + _off_policy_table(page["off_policy"])


def _metrics(models: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(models[0]["lists"])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def _n(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _lists_table(models: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for metric in _metrics(models):
        for model in models:
            of = model["lists"][metric]
            every, gain = of["all"], of.get("gain")
            rows.append([
                escape(metric), escape(model["name"]), _n(every["value"]),
                f'<span class="soft">{_n(every["low"])} to {_n(every["high"])}</span>', _gain(gain),
            ])  # fmt: skip
    for model in models:
        rows += [[escape(n), escape(model["name"]), _n(v), "", ""] for n, v in model["whole"].items()]
    return _table(("metric", "model", "mean", "interval", "gain"), rows)


def _gain(gain: Mapping[str, Any] | None) -> str:
    if gain is None or gain["value"] is None:
        return ""
    clear = gain["low"] > 0 or gain["high"] < 0
    shown = f"{gain['value']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f})"
    return f'<span class="{"clear" if clear else "soft"}">{shown}</span>'


def _segments_table(page: Mapping[str, Any]) -> str:
    metric = _metrics(page["models"])[0]
    names = [name for name, count in page["segments"].items() if count]
    rows = [
        [escape(model["name"])] + [_n(model["lists"][metric][name]["value"]) for name in names]
        for model in page["models"]
    ]
    head = [f"{name} ({page['segments'][name]} slates)" for name in names]
    return _table((metric, *head), rows)


def _heads_table(models: Sequence[Mapping[str, Any]]) -> str:
    wanted = ("positives", "AUC", "log loss", "log loss of the mean", "calibration error")
    rows = [
        [escape(head), escape(model["name"]), f"{of['positives']:g}", *(_n(of[name]) for name in wanted[1:])]
        for model in models
        for head, of in model["heads"].items()
    ]
    return _table(("head", "model", *wanted), rows)


def _off_policy_table(answers: Mapping[str, Any]) -> str:
    rows = []
    for name, some in answers.items():
        for one in some:
            if "refused" in one:
                cells = [f'<span class="soft">refused: {escape(one["refused"])}</span>', "", ""]
            else:
                interval = f"{_n(one['low'])} to {_n(one['high'])}"
                cells = [_n(one["value"]), interval, f"{one['effective_sample']:.0f} of {one['rows']}"]
            rows.append([escape(name), escape(one["estimator"]), *cells])
    return _table(("model", "estimator", "value", "interval", "effective sample"), rows)


# -- plots --------------------------------------------------------------------------------------------------


def _figure(caption: str, inside: str, height: int = HEIGHT) -> str:
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">'
        f"<title>{escape(caption)}</title>{inside}</svg><figcaption>{escape(caption)}</figcaption></figure>"
    )


def _colour(name: str, models: Sequence[Mapping[str, Any]]) -> str:
    return f"var(--c{[model['name'] for model in models].index(name) % COLOURS})"


def _intervals(metric: str, models: Sequence[Mapping[str, Any]]) -> str:
    """A dot with its interval for each model."""
    every = [(model["name"], model["lists"][metric]["all"]) for model in models]
    every = [(name, of) for name, of in every if of["value"] is not None]
    if not every:
        return ""
    low: float = min(of["low"] for _, of in every)
    high: float = max(of["high"] for _, of in every)
    room = max(high - low, 1e-6)
    height = 30 * len(every) + MARGIN

    def x(value: float) -> float:
        return 150 + (value - low) / room * (WIDTH - 170)

    parts = []
    for n, (name, of) in enumerate(every):
        y, colour = 20 + 30 * n, _colour(name, models)
        parts.append(
            f'<text x="4" y="{y + 4}">{escape(name[:24])}</text>'
            f'<line x1="{x(of["low"]):.1f}" x2="{x(of["high"]):.1f}" y1="{y}" y2="{y}" stroke="{colour}" '
            f'stroke-width="2"/><circle cx="{x(of["value"]):.1f}" cy="{y}" r="4" fill="{colour}"/>'
        )
    for value in (low, high):
        anchor = "start" if value == low else "end"
        parts.append(f'<text x="{x(value):.1f}" y="{height - 14}" text-anchor="{anchor}">{value:.3f}</text>')
    return _figure(metric, "".join(parts), height)


def _calibrations(models: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What was predicted against what happened, one plot a head."""
    for head in dict.fromkeys(head for model in models for head in model["calibration"]):
        shown = [model for model in models if model["calibration"].get(head)]
        lines = [(m["name"], _colour(m["name"], models), m["calibration"][head]) for m in shown]
        top = max((max(p, y) for _, _, bins in lines for p, y, _ in bins), default=0.0)
        if top > 0:
            yield _figure(f"calibration of {head}: predicted (across), happened (up)", _curves(lines, top))


def _curves(lines: Sequence[tuple[str, str, Sequence[Sequence[float]]]], top: float) -> str:
    """Lines of (name, colour, bins of predicted, happened, rows)."""

    def x(value: float) -> float:
        return MARGIN + value / top * (WIDTH - MARGIN - 16)

    def y(value: float) -> float:
        return HEIGHT - MARGIN - value / top * (HEIGHT - MARGIN - 16)

    parts = [
        f'<line x1="{x(0)}" y1="{y(0)}" x2="{x(top)}" y2="{y(top)}" stroke="var(--soft)" '
        'stroke-dasharray="4 3"/>',
        f'<text x="{x(0)}" y="{HEIGHT - 24}">0</text>',
        f'<text x="{x(top)}" y="{HEIGHT - 24}" text-anchor="end">{top:.3f}</text>',
        f'<text x="{MARGIN - 6}" y="{y(top) + 4}" text-anchor="end">{top:.3f}</text>',
    ]
    for n, (name, colour, bins) in enumerate(lines):
        points = " ".join(f"{x(p):.1f},{y(h):.1f}" for p, h, _ in bins)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(p):.1f}" cy="{y(h):.1f}" r="2.5" fill="{colour}"/>' for p, h, _ in bins]
        parts.append(f'<text x="{MARGIN + 8}" y="{24 + 14 * n}" style="fill:{colour}">{escape(name)}</text>')
    return "".join(parts)
