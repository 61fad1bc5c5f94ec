"""`feedrank diff A B`: the feeds of two namespaces beside each other, before anybody is sent to the other."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from feedrank.diffing.known import Origin, known_of
from feedrank.diffing.page import page
from feedrank.diffing.report import Asked, Explained, report
from feedrank.diffing.text import show
from streams.errors import ExitCode, OperatorError
from streams.feed_heads import FeedHeads
from streams.settings import Settings
from topologies.comparing import Comparison, Measures, Side, compare, sampled
from topologies.explaining import unknown
from topologies.replay.shadow import Shadow
from topologies.shadow_feeds import ShadowFeeds, on_disk
from wire.names import SURFACES, Namespace

First = Annotated[str, typer.Argument(metavar="A", help="The namespace as it is, say live.")]
Second = Annotated[str, typer.Argument(metavar="B", help="The namespace as it may become.")]
Users = Annotated[Path | None, typer.Option(help="A file with one user id a line; none: all with feeds.")]
Sample = Annotated[int, typer.Option(min=0, help="How many of the users to compare; 0: all.")]
Ks = Annotated[list[int] | None, typer.Option("--k", min=1, help="Depth of an overlap; may be repeated.")]
Most = Annotated[int, typer.Option(min=0, help="How many of the most changed users to explain.")]
Rebuild = Annotated[
    bool,
    typer.Option(help="Rebuild features from the topics where the served log has none: reads all of them."),
]
PolicyOf = Annotated[Path | None, typer.Option(help="Its policy file; none: its replay's, FEEDRANK_POLICY.")]
Html = Annotated[Path | None, typer.Option(help="Also write a page with plots.")]


def diff(
    a: First,
    b: Second,
    surface: Annotated[str, typer.Option(help="for_you or following.")] = SURFACES[0],
    k: Ks = None,
    p: Annotated[float, typer.Option(help="Persistence of rank-biased overlap, above 0, below 1.")] = 0.9,
    users: Users = None,
    sample: Sample = 0,
    seed: Annotated[int, typer.Option(help="Another seed draws another sample.")] = 0,
    most: Most = 10,
    rebuild: Rebuild = True,
    policy_a: PolicyOf = None,
    policy_b: PolicyOf = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    html: Html = None,
) -> None:
    """Compare the feeds of two namespaces; nothing is written but the page."""
    if a == b:
        raise OperatorError(f"{a} and {b} are the same namespace; name two")
    if not 0 < p < 1:
        raise OperatorError(f"--p {p}: it lies between 0 and 1, for example 0.9")
    if surface not in SURFACES:
        raise OperatorError(f"--surface {surface}: write one of {', '.join(SURFACES)}")
    settings = Settings.load()
    names = _namespace(a), _namespace(b)
    with ExitStack() as open_:
        heads = open_.enter_context(FeedHeads(settings.redis))
        sides = [_side(settings, one, surface, heads, open_) for one in names]
        asked, chosen = _asked(sides, users, sample, seed)
        found = _compared(sides, chosen, Measures(tuple(k or (10, 50)), p, most))
    origins = [
        Origin(settings, one, surface, policy, rebuild)
        for one, policy in zip(names, (policy_a, policy_b), strict=True)
    ]
    told = report(asked, found, _explained(origins, found))
    if html is not None:
        _write(html, page(told))
    if as_json:
        sys.stdout.write(orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode())
    else:
        show(told, Console())


def _namespace(name: str) -> Namespace:
    try:
        return Namespace(name)
    except ValueError as error:
        raise OperatorError(str(error)) from error


def _side(settings: Settings, names: Namespace, surface: str, heads: FeedHeads, open_: ExitStack) -> Side:
    """Feeds of a replay that kept them on disk are read there."""
    shadow = Shadow.of(settings.worker.data_dir, names)
    if on_disk(shadow) and shadow.definition().sink == "files":
        return Side(names, surface, open_.enter_context(ShadowFeeds(shadow.directory)))
    return Side(names, surface, heads)


def _asked(sides: list[Side], file: Path | None, sample: int, seed: int) -> tuple[Asked, list[str]]:
    """Whom to compare. Raises OperatorError for a namespace without feeds, or no users in common."""
    have = [side.users() for side in sides]
    for side, there in zip(sides, have, strict=True):
        if not there:
            raise OperatorError(
                f"namespace {side.names.name} has no feeds on {side.surface}; correct the name, or make "
                f"them: `FEEDRANK_NAMESPACE={side.names.name} feedrank settle`, or a replay into it",
                ExitCode.BAD_INPUT,
            )
    common = have[0] & have[1]
    a, b = (side.names.name for side in sides)
    if not common:
        raise OperatorError(
            f"{a} has feeds of {len(have[0]):,} users and {b} of {len(have[1]):,}, but of no user both; are "
            "they of the same activities?",
            ExitCode.BAD_INPUT,
        )
    wanted = common if file is None else common & _listed(file)
    if not wanted:
        raise OperatorError(
            f"no user of {file} has a feed in both {a} and {b}; check the ids", ExitCode.BAD_INPUT
        )
    chosen = sampled(wanted, sample, seed)
    asked = Asked(a, b, sides[0].surface, len(have[0]), len(have[1]), len(common), sample, seed)
    return asked, chosen


def _listed(file: Path) -> set[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorError(f"--users {file}: {error}; name a file with one user id a line") from error
    return {line.strip() for line in lines if line.strip()}


def _compared(sides: list[Side], users: list[str], measures: Measures) -> Comparison:
    console = Console(stderr=True)
    columns = (TextColumn("comparing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("comparing", total=len(users))
        try:
            return compare(sides[0], sides[1], users, measures, lambda count: bar.advance(task, count))
        except ValueError as error:
            raise OperatorError(
                f"a feed cannot be read: {error}; delete that key or correct its writer", ExitCode.BAD_INPUT
            ) from error


def _explained(origins: list[Origin], found: Comparison) -> Explained:
    """What is known of both sides; a side that cannot be asked says why, and the comparison stands."""
    feeds = [one.before for one in found.most], [one.after for one in found.most]
    told = []
    for origin, some in zip(origins, feeds, strict=True):
        try:
            told.append(known_of(origin, some))
        except OperatorError as error:
            told.append({feed.user: unknown(error.message) for feed in some})
    return told[0], told[1]


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OperatorError(
            f"cannot write {path} ({error.strerror}); name another place with --html"
        ) from error
