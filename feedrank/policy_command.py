"""`feedrank policy`: check a policy file before it is deployed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from models.policy import Policy
from models.policy_check import SHARE_MAX, Share, variance_shares
from streams.policy_file import read_policy
from topologies.model_watch import scorer_of

app = typer.Typer()

File = Annotated[Path | None, typer.Argument(help="Policy file (TOML); none: the bundled one.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@app.callback()
def policy() -> None:
    """Check a policy file."""


@app.command()
def check(file: File = None, json_lines: Json = False) -> None:
    """Refuse a wrong policy with its line, and models that do not load; show what each action means."""
    read = read_policy(file)
    trained = scorer_of(read, file.parent).name if file and (read.model.light or read.model.heavy) else None
    shares = variance_shares(read)
    if json_lines:
        for one in shares:
            print(json.dumps(_fields(read, one)))
        return
    print(f"policy {read.version}: {len(read.verbs)} verbs, {len(read.candidates.sources)} sources, good")
    if trained:
        print(f"ranks with {trained}")
    _print(shares)
    for one in shares:
        if one.rules_alone:
            print(
                f"warning: {one.action} holds {one.share:.0%} of the variance (over {SHARE_MAX:.0%}), so it "
                "rules nearly alone; lower the value of its verbs or its weights"
            )


def _fields(read: Policy, one: Share) -> dict[str, object]:
    return {
        "policy": read.version,
        "action": one.action,
        "value": one.value,
        "probability": round(one.probability, 6),
        "share": round(one.share, 4),
        "warning": one.rules_alone,
    }


def _print(shares: list[Share]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("action", "value", "mean probability", "share of the score's variance"):
        table.add_column(column, justify="left" if column == "action" else "right")
    for one in shares:
        table.add_row(one.action, f"{one.value:g}", f"{one.probability:.4f}", f"{one.share:.1%}")
    console = Console()
    console.print(table) if console.is_terminal else Console(width=120).print(table)
