"""The table of docs/benchmarks.md, between its two markers, made from figures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

BEGIN = "<!-- figures: written by `make bench` -->"
END = "<!-- end of figures -->"
HEAD = ["benchmark", "subject", "value", "unit", "peer", "peer's value", "ratio", "goal", "met", "notes"]


def table(figures: Iterable[dict[str, object]]) -> str:
    """Markdown rows in the order given."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    return "\n".join([*lines, *(_row(f) for f in figures)])


def _row(figure: dict[str, object]) -> str:
    goal = figure["goal"]
    ratio = figure["ratio"]
    cells = [
        str(figure["name"]),
        str(figure["subject"]),
        number(figure["value"]),
        str(figure["unit"]),
        str(figure["peer"] or ""),
        number(figure["peer_value"]),
        f"{number(ratio)}x" if ratio is not None else "",
        "" if goal is None else number(goal) + ("x" if figure["goal_on"] == "ratio" else ""),
        {True: "yes", False: "**no**", None: ""}[figure["met"]],  # type: ignore[index]
        _notes(figure),
    ]
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _notes(figure: dict[str, object]) -> str:
    found = [str(figure["note"])] if figure["note"] else []
    if figure["cpu_s"] is not None:
        found.append(f"{number(figure['cpu_s'])} CPU-s")
    if figure["peak_mb"] is not None:
        found.append(f"peak {number(figure['peak_mb'])} MB")
    return "; ".join(found)


def number(value: object) -> str:
    """12,345 for large values, three digits for small ones."""
    if value is None:
        return ""
    assert isinstance(value, int | float)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write(page: Path, figures: list[dict[str, object]], machine: str) -> None:
    """Replace what is between the markers. Raises ValueError when the page has not both, in order."""
    text = page.read_text()
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has lost its markers; put {BEGIN!r} and {END!r} back, each on a line")
    page.write_text(f"{head}{BEGIN}\n\n{machine}\n\n{table(figures)}\n\n{END}{tail}")
