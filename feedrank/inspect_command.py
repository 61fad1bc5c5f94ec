"""`feedrank inspect user U | item I`: what a namespace knows of them, in words and numbers."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from feedrank.inspecting import rows as described
from feedrank.inspecting import text
from feedrank.inspecting.names import Names
from feedrank.inspecting.where import Place, opened, teller
from feedrank.replaying.plan import time_ms
from models.fingerprint import fp64
from models.verbs import VerbTable
from streams.errors import ExitCode, OperatorError
from streams.settings import Settings
from topologies.stored_rows import FP_BYTES, KeyedState, StoredRows, read_item, read_user
from wire.names import Namespace

app = typer.Typer(help="Show the rows of a user or an item, in words and numbers.")

At = Annotated[
    str | None,
    typer.Option(
        "--at", help="Read windows at this time: ms or ISO 8601 with a zone; none: now, or as settled."
    ),
]
In = Annotated[str | None, typer.Option("--namespace", help="Another than FEEDRANK_NAMESPACE.")]
Rows = Annotated[str, typer.Option(help="topics, disk (a replay's directory), or auto.")]
WithNames = Annotated[
    bool, typer.Option("--names/--no-names", help="Names of items and authors: reads all items.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def user(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    at: At = None,
    namespace: In = None,
    rows: Rows = "auto",
    names: WithNames = True,
    as_json: Json = False,
) -> None:
    """A user's windows, engagements, interests, seen items and edges."""
    wanted = Wanted("user", user, b"u" + user.encode(), at, rows, names)
    found = _described(
        wanted,
        namespace,
        lambda stored: read_user(stored, user.encode(), teller("changelog")),
        lambda state, at_ms, known, verbs: described.of_user(user, state, at_ms, known, verbs),
    )
    _print(found, as_json, text.show_user)


@app.command()
def item(
    item: Annotated[str, typer.Argument(help="The item's id.")],
    at: At = None,
    namespace: In = None,
    rows: Rows = "auto",
    names: WithNames = True,
    as_json: Json = False,
) -> None:
    """An item's windows, long decays and engagers."""
    key = b"i" + fp64(item.encode()).to_bytes(FP_BYTES, "big")
    found = _described(
        Wanted("item", item, key, at, rows, names),
        namespace,
        lambda stored: read_item(stored, item, teller("changelog")),
        lambda state, at_ms, known, verbs: described.of_item(item, state, at_ms, known),
    )
    _print(found, as_json, text.show_item)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look at: `key` is that of the row without which there is nothing; `names`: of items, too."""

    kind: str
    id: str
    key: bytes
    at: str | None
    rows: str
    names: bool


def _described(
    wanted: Wanted,
    namespace: str | None,
    read: Callable[[StoredRows], KeyedState],
    describe: Callable[[KeyedState, int, Names, VerbTable], Mapping[str, Any]],
) -> Mapping[str, Any]:
    """The rows in words and numbers. Raises OperatorError where there are none."""
    settings, space = _namespace(namespace)
    with opened(settings, space, wanted.rows) as place:
        state = read(place.rows)
        if wanted.key not in state.rows:
            raise _nothing(wanted.kind, wanted.id, space, state.partition, place)
        known = place.names() if wanted.names else Names()
        return describe(state, _as_of_ms(wanted.at, place), known, place.policy.verbs)


def _namespace(name: str | None) -> tuple[Settings, Namespace]:
    settings = Settings.load()
    try:
        return settings, settings.names if name is None else Namespace(name)
    except ValueError as error:
        raise OperatorError(f"--namespace: {error}") from error


def _as_of_ms(at: str | None, place: Place) -> int:
    if at is not None:
        return time_ms(at, "--at")
    return time.time_ns() // 1_000_000 if place.as_of_ms is None else place.as_of_ms


def _nothing(kind: str, name: str, space: Namespace, partition: int, place: Place) -> OperatorError:
    return OperatorError(
        f"{space.name} has no row of {kind} {name!r} (partition {partition}, {place.words}): nothing with "
        "this id was applied, or its worker has not committed it yet; check the id, and the lag with "
        "`feedrank topics check`",
        ExitCode.BAD_INPUT,
    )


def _print(found: Mapping[str, Any], as_json: bool, show: Any) -> None:
    if as_json:
        sys.stdout.write(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode())
    else:
        show(found, Console())
