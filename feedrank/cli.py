"""The command line: `feedrank COMMAND`. A module per command, imported only when it is asked for."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import platform
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import version
from types import ModuleType
from typing import Annotated, Any, NoReturn

import typer

from streams.errors import ExitCode, OperatorError

COMMANDS: dict[str, str] = {
    "demo": "See it work: embedded Kafka and Redis, simulated users, a worker, a page.",
    "worker": "Run one worker: activities in, ranked feeds out.",
    "serve": "Run the read API with its page.",
    "act": "Act as a user and see the feed before and after.",
    "load": "Turn real data into activities and items on the topics.",
    "dataset": "Make a data set of what was served and what came of it.",
    "train": "Train a model on a data set.",
    "embeddings": "Learn item vectors from co-engagement and send them to the job.",
    "evaluate": "Compare models on a data set.",
    "topics": "Check or create the topics; show the lag.",
    "dlq": "List, show and requeue dead letters.",
    "policy": "Check a policy file.",
    "features": "List the ranking features.",
    "settings": "Show every setting: value, origin, meaning.",
    "promote": "Send all readers to a namespace.",
    "rollback": "Take the last change of the route back.",
    "route": "Show which namespace is read; send a share of the users to another.",
    "replay": "Build rows, statistics and feeds of the past in a shadow namespace.",
    "jobs": "List, show, pause, resume and cancel replays.",
    "digest": "One hash over rows, item statistics and settled feeds.",
    "diff": "Compare the feeds of two namespaces.",
    "inspect": "Show the rows of a user or an item, in words and numbers.",
    "explain": "Say why a user's feed is as it is: features, sources, rules.",
    "catch-up": "Let a shadow namespace go on live from where its replay ended.",
    "state": "Check, mend, export and import the rows of a namespace.",
    "settle": "Rank every active user at one stated tick and time.",
    "bench": "Measure, beside a peer.",
}
"""Command -> the line in `feedrank --help`. Module: feedrank.<command>_command, with a typer `app` or a
function of the command's name."""


def _stub() -> None:
    """Stands in `--help` for a command whose module is not imported."""


def _load(name: str) -> typer.Typer | Callable[..., Any]:
    """The command itself. Raises OperatorError when this installation does not have it."""
    module = f"feedrank.{name.replace('-', '_')}_command"
    try:
        loaded = _import(module)
    except ModuleNotFoundError as error:
        if error.name == module:
            raise OperatorError(f"this installation has no `{name}`; install a complete feedrank") from error
        missing = (error.name or "?").partition(".")[0]
        raise OperatorError(
            f"`{name}` needs the package {missing}, which is not installed; "
            "install feedrank with its extras: pip install 'feedrank[demo,train,bench]'"
        ) from error
    app = getattr(loaded, "app", None)  # a worker's module may hold an `app` of another kind
    return app if isinstance(app, typer.Typer) else _function(loaded, name)


def _import(module: str) -> ModuleType:
    """Without walks of the garbage collector: what a module makes stays, and they take a tenth of a start."""
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        gc.enable()


def _tell_version(asked: bool) -> None:
    if asked:
        print(f"feedrank {version('feedrank')}, Python {platform.python_version()}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Say it and exit.")
    ] = False,
) -> None:
    """Real-time feed ranking: Kafka in, ranked feeds in Redis out."""


def _function(loaded: ModuleType, name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(loaded, name.replace("-", "_"))
    return found


def build(chosen: str | None) -> typer.Typer:
    """The application with every command named and only `chosen` imported."""
    app = typer.Typer(
        name="feedrank",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    for name, line in COMMANDS.items():
        command = _load(name) if name == chosen else _stub
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, help=line, no_args_is_help=True)
        elif command is _stub:
            app.command(name, help=line)(command)
        else:
            app.command(name)(command)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return the exit code; errors become one message on stderr."""
    chosen = next((a for a in arguments if not a.startswith("-")), None)
    try:
        build(chosen)(list(arguments))
    except OperatorError as error:
        return _fail(error.message, error.exit_code)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # or Python complains once more at exit
        return ExitCode.OK
    except SystemExit as end:
        if isinstance(end.__context__, typer.Abort):
            return ExitCode.INTERRUPTED
        return end.code if isinstance(end.code, int) else ExitCode.OK
    except Exception as error:
        what = f"internal error: {type(error).__name__}: {error}"
        return _fail(f"{what}; run with FEEDRANK_LOG_LEVEL=debug for the traceback", ExitCode.INTERNAL)
    return ExitCode.OK


def _fail(message: str, code: int) -> int:
    if os.environ.get("FEEDRANK_LOG_LEVEL") == "debug":
        traceback.print_exc()
    for line in message.splitlines():
        print(f"feedrank: {line}", file=sys.stderr)
    return code


def main() -> NoReturn:
    """Entry point of the `feedrank` script."""
    if logging.lastResort:  # warnings of commands that write no logs, or before they do
        logging.lastResort.setFormatter(logging.Formatter("feedrank: %(message)s"))
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
