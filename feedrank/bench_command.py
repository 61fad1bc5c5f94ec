"""`feedrank bench NAME`: measure, beside a peer, in one run on the same input."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.errors import ExitCode, OperatorError

if TYPE_CHECKING:
    from benchmarks.place import Place

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
ALL = "all"

Name = Annotated[
    str,
    typer.Argument(
        help="ingest, decode, rows, index, rank, models, freshness, closedloop, memory, recovery, fencing, "
        "replay, ranklens, uboot, openbandit, trainedloop, coldstart; all"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Activities = Annotated[int, typer.Option(min=30_000, help="Activities of the ingest benchmark.")]
Users = Annotated[int, typer.Option(min=1_000, help="Users of recovery and warm restart.")]
Seconds = Annotated[int, typer.Option(min=5, help="Length of each load of the freshness benchmark.")]
Peers = Annotated[str, typer.Option(help="Peers of ingest, by commas; empty: none.")]
Directory = Annotated[
    Path | None, typer.Option(help="Where state and logs go and stay; none: a temporary one.")
]
Write = Annotated[bool, typer.Option("--write/--no-write", help="With `all`: write docs/benchmarks.md.")]


def bench(
    name: Name,
    json_lines: Json = False,
    activities: Activities = 3_000_000,
    users: Users = 1_000_000,
    seconds: Seconds = 30,
    peers: Peers = "kafka-streams,quix,faust",
    directory: Directory = None,
    write: Write = True,
) -> None:
    """Measure, beside a peer."""
    _require_checkout()
    from benchmarks import catalog, table
    from benchmarks.place import Place

    chosen = list(catalog.MEANING) if name == ALL else [name]
    if name not in (ALL, *catalog.MEANING):
        raise OperatorError(
            f"there is no benchmark {name!r}; choose one of {', '.join(catalog.MEANING)}, all"
        )
    figures: list[dict[str, object]] = []
    with (
        nullcontext(directory) if directory else tempfile.TemporaryDirectory(prefix="feedrank-bench-") as root
    ):
        place = Place(Path(root), activities, users, seconds, tuple(peers.split(",")))
        for figure in _measure(chosen, place):
            figures.append(figure)
            print(catalog.as_line(figure) if json_lines else _text(figure), flush=True)
    if name == ALL and write:
        table.write(PAGE, figures, machine())
        print(f"wrote {PAGE}", file=sys.stderr)


def _measure(names: list[str], place: Place) -> Iterator[dict[str, object]]:
    """Figures of all named benchmarks. Raises OperatorError at the first that can't be measured."""
    from benchmarks import catalog
    from benchmarks.measure import BenchmarkFailed
    from tests.services import ServiceMissing

    for name in names:
        print(f"{name}: {catalog.MEANING[name]}", file=sys.stderr, flush=True)
        try:
            yield from catalog.find(name)(place)
        except ModuleNotFoundError as missing:
            raise OperatorError(
                f"benchmark {name} needs {missing.name}, which is not installed; `pip install -e "
                "'.[test,train,bench]'` in the checkout has all that benchmarks need"
            ) from missing
        except (BenchmarkFailed, ServiceMissing, RuntimeError, ValueError) as failed:
            raise OperatorError(f"benchmark {name}: {failed}", ExitCode.INTERNAL) from failed


def _text(figure: dict[str, Any]) -> str:
    from benchmarks.table import number

    line = f"  {figure['subject']}: {number(figure['value'])} {figure['unit']}"
    if figure["peer"]:
        line += f"; {figure['peer']} {number(figure['peer_value'])}; ratio {number(figure['ratio'])}"
    if figure["goal"] is not None:
        line += f"; goal {number(figure['goal'])} {'met' if figure['met'] else 'MISSED'}"
    return line + (f" ({figure['note']})" if figure["note"] else "")


def machine() -> str:
    """One sentence about where the figures come from."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{os.cpu_count()} cores ({model}), Linux, Python {platform.python_version()}; single runs."


def _require_checkout() -> None:
    """Benchmarks use the test services and the peers, which are not part of an installed package."""
    if not (ROOT / "benchmarks").is_dir() or not sys.platform.startswith("linux"):
        raise OperatorError(
            "benchmarks run on Linux from a checkout of the source; `git clone` it, `make bench`"
        )
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
