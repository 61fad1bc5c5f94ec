"""`feedrank features`: every ranking feature with its version, inputs and meaning."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from models.features import FEATURES
from models.policy import HEADS
from models.tables import GRID
from streams.policy_file import read_policy

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def features(json_lines: Json = False) -> None:
    """List the ranking features, with their weights in the bundled policy."""
    weights = read_policy().weights
    table = Table(box=None, pad_edge=False)
    for column in ("feature", "version", "weights (weak, strong, negative)", "meaning"):
        table.add_column(column)
    for one in FEATURES:
        by_head = {head.name.lower(): weights[head].get(one.name, 0) / GRID for head in HEADS}
        if json_lines:
            fields = {"name": one.name, "family": one.family, "version": one.version, "inputs": one.inputs}
            print(json.dumps(fields | {"meaning": one.meaning, "weights": by_head}))
        else:
            shown = ", ".join(f"{weight:.3g}" if weight else "-" for weight in by_head.values())
            table.add_row(one.name, str(one.version), shown, one.meaning)
    if not json_lines:
        console = Console()
        console.print(table) if console.is_terminal else Console(width=180).print(table)
