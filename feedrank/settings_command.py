"""`feedrank settings`: every setting with value, origin and meaning; the same as docs/settings.md."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from streams.settings import CONCERNS, Settings, Shown

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="The page docs/settings.md.")]

PAGE = """# Settings

Every setting is an environment variable. `feedrank settings` prints each with its value, where it came from
and what it means; `feedrank settings --json` the same for programs. Secrets are shown as `***`.

A setting comes from the environment; else from the file that `FEEDRANK_SETTINGS_FILE` names (lines of
`NAME=value`, `export NAME=value` or `# comment`); else it has its default. An empty variable counts as unset.
A wrong value (also a URL that cannot be one, or a PEM file that cannot be read), a variable that starts with
`FEEDRANK_` and is not a setting, and any other line of the file end every command at its start with exit code
2 and a line for each.

A variable that is nearly a setting (`KAFKA_BOOTSTRAP_SERVER`) is not used. It may belong to other software,
so it is no error: a line on stderr names it and the setting that may be meant, never its value.

This page is written by `feedrank settings --markdown`.
"""


def settings(json_lines: Json = False, markdown: Markdown = False) -> None:
    """Show every setting: value, origin, meaning."""
    if markdown:
        print(page(), end="")
        return
    shown = list(Settings.load().shown())
    if json_lines:
        for one in shown:
            print(json.dumps(asdict(one), ensure_ascii=False))
        return
    _print(shown)


def _print(shown: list[Shown]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("setting", "value", "origin"):
        table.add_column(column, overflow="fold", no_wrap=column != "value")
    table.add_column("meaning", overflow="fold", ratio=1)
    for one in shown:
        table.add_row(one.name, one.value, one.origin, one.meaning)
    console = Console()
    console.print(table) if console.is_terminal else Console(width=200).print(table)


def page() -> str:
    """docs/settings.md, made from the classes alone (no environment is read)."""
    lines = [PAGE]
    for kind in CONCERNS.values():
        lines += [
            f"## {(kind.__doc__ or '').strip()}",
            "",
            "| variable | default | meaning |",
            "|---|---|---|",
        ]
        for info in kind.model_fields.values():
            default = _default(info.default)
            lines.append(
                f"| `{info.validation_alias}` | {default} | {_limits(info.metadata, info.description)} |"
            )
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _default(value: object) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    secret = getattr(value, "get_secret_value", None)
    return f"`{secret() if secret else value}`"


def _limits(metadata: list[object], meaning: str | None) -> str:
    """The meaning with the bounds that the class enforces."""
    low = next((m.ge for m in metadata if hasattr(m, "ge")), None)
    high = next((m.le for m in metadata if hasattr(m, "le")), None)
    bounds = f" ({low:,} to {high:,})" if low is not None and high is not None else ""
    return f"{meaning}{bounds or (f' (at least {low:,})' if low is not None else '')}"
