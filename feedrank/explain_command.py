"""`feedrank explain USER [ITEM]`: why a feed is as it is, entry by entry."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console

from feedrank.diffing.known import Origin
from feedrank.explaining.rows import explained, stored_feed
from feedrank.explaining.text import document, show, show_item
from streams.errors import OperatorError
from streams.settings import Settings
from wire.names import SURFACES, Namespace

User = Annotated[str, typer.Argument(help="The user's id.")]
Item = Annotated[str | None, typer.Argument(help="One item's id: all its contributions.")]
In = Annotated[str | None, typer.Option("--namespace", help="Another than FEEDRANK_NAMESPACE.")]
PolicyFile = Annotated[
    Path | None, typer.Option("--policy", help="The policy's file; none: its replay's, FEEDRANK_POLICY.")
]


def explain(
    user: User,
    item: Item = None,
    namespace: In = None,
    policy: PolicyFile = None,
    most: Annotated[int, typer.Option(min=1, help="Entries to show.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: all candidates.")] = False,
) -> None:
    """Say why a feed is as it is; reads the topics, or a replay's rows."""
    settings = Settings.load()
    try:
        names = settings.names if namespace is None else Namespace(namespace)
    except ValueError as error:
        raise OperatorError(f"--namespace: {error}") from error
    origin = Origin(settings, names, SURFACES[0], policy, True)
    feed = stored_feed(origin, user)
    models = policy.parent if policy is not None else settings.worker.policy_folder
    found, told = explained(origin, feed, models)
    if as_json:
        answer = document(feed, found, told, item)
        sys.stdout.write(
            orjson.dumps(answer, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
        )
    elif item is None:
        show(feed, found, told, most, Console())
    else:
        show_item(feed, found, told, item, Console())
