"""`feedrank features`: every ranking feature with its version, inputs, meaning, and what it is worth."""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from feedrank.catalogue.page import delta, of, page
from models.features import FEATURES
from models.policy import HEADS
from models.tables import GRID
from streams.errors import ExitCode, OperatorError
from streams.policy_file import read_policy

MEASURED = "measured.json"

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="The page docs/features.md.")]
Measure = Annotated[
    Path | None, typer.Option(help="Measure on this data set of `feedrank dataset`; prints JSON.")
]
Measured = Annotated[
    Path | None, typer.Option(help="What was measured, as --measure prints it; none: what was bundled.")
]
Name = Annotated[str, typer.Option(help="With --measure: the data set's name.")]
Told = Annotated[str, typer.Option(help="With --measure: what the data set is, in a few words.")]


def features(
    json_lines: Json = False,
    markdown: Markdown = False,
    measure: Measure = None,
    measured: Measured = None,
    name: Name = "",
    told: Told = "",
) -> None:
    """List the ranking features, with their weights in the bundled policy and what they are worth."""
    if measure is not None:
        print(json.dumps(_measure(measure, name, told), indent=1))
        return
    found = _bundled() if measured is None else _read(measured)
    if markdown:
        sys.stdout.write(page(read_policy(), found))
    elif json_lines:
        _lines(found)
    else:
        _table(found)


def _measure(path: Path, name: str, told: str) -> dict[str, Any]:
    from feedrank.catalogue.measure import measured
    from feedrank.dataset.table import load

    data = load(path)
    found = measured(data, read_policy(), lambda text: print(text, file=sys.stderr, flush=True))
    return {name or path.stem: {"told": told or f"{path.name}, {data.meta.get('source', '')}"} | found}


def _bundled() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files("feedrank.catalogue").joinpath(MEASURED).read_text("utf-8"))
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        assert all({"features", "families", "ndcg"} <= set(one) for one in found.values())
    except (OSError, ValueError, AttributeError, TypeError, AssertionError) as error:
        raise OperatorError(
            f"--measured {path} is not what `feedrank features --measure` prints ({error}); make it anew",
            ExitCode.BAD_INPUT,
        ) from error
    return dict(found)


def _lines(found: dict[str, Any]) -> None:
    weights = read_policy().weights
    for one in FEATURES:
        by_head = {head.name.lower(): weights[head].get(one.name, 0) / GRID for head in HEADS}
        fields = {"name": one.name, "family": one.family, "version": one.version, "inputs": one.inputs}
        fields |= {"of": one.of.value, "default": one.default / GRID, "meaning": one.meaning}
        worth = {name: of(data, one) for name, data in found.items()}
        print(json.dumps(fields | {"weights": by_head, "measured": worth}))


def _table(found: dict[str, Any]) -> None:
    weights = read_policy().weights
    table = Table(box=None, pad_edge=False)
    for column in ("feature", "version", "weights (weak, strong, negative)", "meaning"):
        table.add_column(column)
    for name in found:
        table.add_column(f"{name}: missing", justify="right")
        table.add_column("without it")
    for one in FEATURES:
        shown = [weights[head].get(one.name, 0) / GRID for head in HEADS]
        cells = [one.name, str(one.version), ", ".join(f"{w:.3g}" if w else "-" for w in shown), one.meaning]
        for data in found.values():
            seen = of(data, one)
            worth = "" if seen is None else delta(seen["linear"]).replace("*", "")
            cells += ["" if seen is None else f"{seen['missing']:.1%}", worth]
        table.add_row(*cells)
    console = Console()
    console.print(table) if console.is_terminal else Console(width=260).print(table)
