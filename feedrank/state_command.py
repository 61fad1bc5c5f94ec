"""`feedrank state export | import | verify | repair`: rows out and back, checked, and mended."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Annotated

import orjson
import typer

from feedrank.state.export import export as write
from feedrank.state.importing import Import
from feedrank.state.items import ChosenItems, repair_items, verify_items
from feedrank.state.reconciling import Chosen, Outcome, Told, demand_live, reconciling
from streams.errors import ExitCode, OperatorError
from streams.group import demand_stopped
from streams.settings import Settings
from topologies.reconcile import Finding, Verdict
from topologies.replay.seed import POLICY_FILE
from wire.names import Namespace

app = typer.Typer(help="Check, mend, export and import the rows of a namespace.")

TOLD_EVERY_S = 5.0
SHOWN_MAX = 20

In = Annotated[str | None, typer.Option("--namespace", help="Another than FEEDRANK_NAMESPACE.")]
Share = Annotated[float, typer.Option(min=0, max=1, help="Of the users; 1: everyone.")]
Seed = Annotated[int, typer.Option(help="Another seed draws other users.")]
UserNames = Annotated[list[str] | None, typer.Option("--user", help="A user; may be repeated.")]
UsersFile = Annotated[Path | None, typer.Option("--users", help="A file with one user id a line.")]
TimeOrder = Annotated[
    bool,
    typer.Option(
        "--in-time-order",
        help="Ordered parts as if every activity had come at its time and none that was withdrawn.",
    ),
]
Items = Annotated[bool, typer.Option("--items", help="Item rows instead of users'; workers are stopped.")]
ItemNames = Annotated[list[str] | None, typer.Option("--item", help="An item's row; may be repeated.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

WORDS = {
    Verdict.SAME: "are what the topics say",
    Verdict.DIFFERENT: "are NOT what the topics say",
    Verdict.ITEMS: "differ in interests only: items that changed since explain that",
    Verdict.GONE: "cannot be told: records of theirs have left the topic",
}


@app.command()
def verify(
    namespace: In = None,
    share: Share = 0.01,
    seed: Seed = 0,
    user: UserNames = None,
    users: UsersFile = None,
    in_time_order: TimeOrder = False,
    items: Items = False,
    item: ItemNames = None,
    as_json: Json = False,
) -> None:
    """Recompute rows from the activities topic and report every difference. Changes nothing."""
    settings, names = _namespace(namespace)
    chosen, of_items = _chosen(share, seed, user, users), ChosenItems.of(item, share, seed)

    async def work() -> Outcome:
        async with reconciling(settings, names, teller()) as opened:
            if items or item:
                return await verify_items(opened, of_items)
            return await opened.verify(chosen, in_time_order)

    outcome = asyncio.run(work())
    _print(names, outcome, as_json, "items" if items or item else "users")
    _demand_some(names, outcome)
    if outcome.verdicts[Verdict.DIFFERENT]:
        raise typer.Exit(ExitCode.DIFFERENT)


@app.command()
def repair(
    namespace: In = None,
    share: Share = 0.0,
    seed: Seed = 0,
    user: UserNames = None,
    users: UsersFile = None,
    in_time_order: TimeOrder = False,
    interests: Annotated[
        bool, typer.Option("--interests", help="Also users of whom only interests differ.")
    ] = False,
    items: Items = False,
    item: ItemNames = None,
    as_json: Json = False,
) -> None:
    """Write the rows that `verify` finds different, as they should be. Workers must be stopped."""
    settings, names = _namespace(namespace)
    chosen, of_items = _chosen(share, seed, user, users), ChosenItems.of(item, share, seed)
    if chosen.users is None and not item and not share:
        raise OperatorError(
            "whose rows? Name users (--user, --users) or items (--item), or a --share; 1 is all"
        )
    demand_live(settings, names)
    demand_stopped(settings.kafka, names, "rows are not mended")

    async def work() -> Outcome:
        async with reconciling(settings, names, teller()) as opened:
            if items or item:
                return await repair_items(opened, of_items)
            return await opened.repair(chosen, in_time_order, interests)

    outcome = asyncio.run(work())
    _print(names, outcome, as_json, "items" if items or item else "users")
    _demand_some(names, outcome)


Directory = Annotated[Path, typer.Argument(help="Where the Parquet files are.", metavar="DIRECTORY")]


@app.command()
def export(
    directory: Directory,
    namespace: In = None,
    while_running: Annotated[
        bool, typer.Option("--while-running", help="Also beside workers: to look at, not to import.")
    ] = False,
) -> None:
    """Write rows and item statistics as Parquet files, one per table and partition."""
    settings, names = _namespace(namespace)
    found = write(settings, names, directory, while_running, teller())
    for table, digest in found.digests.items():
        print(f"{table}: {digest.records:,} rows, digest {digest.total:064x}")
    print(f"{directory}: {'whole' if found.meta['whole'] else 'of different moments, not to be imported'}")


@app.command(name="import")
def import_(
    directory: Directory,
    into: Annotated[str, typer.Option(help="A namespace that has no rows and no workers.")],
) -> None:
    """Make a namespace of an export, bit for bit; workers of it then go on from its positions."""
    settings, names = _namespace(into)
    shadow = Import(settings, names, directory, teller()).carry_out()
    policy = (shadow.directory / POLICY_FILE).absolute()
    print(f"{names.name}: its rows are in its topics and in {shadow.directory}")
    print(f"start workers with FEEDRANK_NAMESPACE={names.name} FEEDRANK_POLICY={policy} feedrank worker")


def _namespace(name: str | None) -> tuple[Settings, Namespace]:
    settings = Settings.load()
    try:
        return settings, settings.names if name is None else Namespace(name)
    except ValueError as error:
        raise OperatorError(f"--namespace: {error}") from error


def _chosen(share: float, seed: int, user: list[str] | None, file: Path | None) -> Chosen:
    if user is None and file is None:
        return Chosen(None, share, seed)
    named = set(user or ())
    if file is not None:
        try:
            named |= {line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()}
        except (OSError, UnicodeDecodeError) as error:
            raise OperatorError(f"--users {file}: {error}; name a file with one user id a line") from error
    return Chosen(frozenset(named), share, seed)


def _demand_some(names: Namespace, outcome: Outcome) -> None:
    if not outcome.users:
        raise OperatorError(
            f"{names.name} has no rows of the chosen users or items, and its part of the topics no "
            "activities of them; check the ids or raise --share",
            ExitCode.BAD_INPUT,
        )


def teller() -> Told:
    """Says every few seconds on stderr how far it is."""
    said = time.monotonic()

    def tell(what: str, done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said >= TOLD_EVERY_S:
            said = time.monotonic()
            print(f"{what}: {done:,} of {total:,}", file=sys.stderr, flush=True)

    return tell


def _print(names: Namespace, outcome: Outcome, as_json: bool, kind: str) -> None:
    if as_json:
        found = {
            "namespace": names.name,
            kind: outcome.users,
            "verdicts": {verdict.value: outcome.verdicts[verdict] for verdict in Verdict},
            "rows_written": outcome.mended,
            "findings": [_finding(one, kind) for one in outcome.findings],
        }
        sys.stdout.write(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode())
        return
    print(f"{names.name}: {outcome.users:,} {kind} compared")
    for verdict, words in WORDS.items():
        if outcome.verdicts[verdict]:
            print(f"  {outcome.verdicts[verdict]:,} {words}")
    for one in [one for one in outcome.findings if one.verdict is not Verdict.GONE][:SHOWN_MAX]:
        print(f"{one.id.decode(errors='replace')}:")
        for difference in one.differences:
            print(f"  {difference.field}: stored {difference.stored}; recomputed {difference.recomputed}")
    if len(outcome.findings) > SHOWN_MAX:
        print(f"... {len(outcome.findings):,} {kind} in all; --json has every one")
    if outcome.mended:
        print(f"{outcome.mended:,} rows written")


def _finding(one: Finding, kind: str) -> dict[str, object]:
    return {
        kind.removesuffix("s"): one.id.decode(errors="replace"),
        "verdict": one.verdict.value,
        "differences": [
            {"field": d.field, "stored": d.stored, "recomputed": d.recomputed} for d in one.differences
        ],
    }
