"""`feedrank dlq list | show | requeue`: what was set aside, why, and sending it back."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streams.codec.schemas import BundledSchemas, Schemas
from streams.concerns import KafkaSettings
from streams.dead_letter_log import StoredLetter, read
from streams.dead_letters import Reason as Cause
from streams.errors import ExitCode, OperatorError
from streams.letter_edit import Unreadable, decode_value, kind_of, parse_change
from streams.registry import BlockingSchemas, Registry
from streams.requeue import Requeue
from streams.settings import Settings
from wire.names import DEAD_LETTERS

app = typer.Typer(help="List, show and requeue dead letters.")

HEX_BYTES_MAX = 1_024
_SPAN = re.compile(r"([0-9]{1,18})([smhd])")
_NAME = re.compile(r"([0-9]{1,18}):([0-9]{1,18})")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

Reason = Annotated[str | None, typer.Option(help="Only letters with this reason.")]
Since = Annotated[str | None, typer.Option(help="Only letters set aside since: 30m, 2h, 7d or an ISO time.")]
Topic = Annotated[str, typer.Option("--dead-letters", help="The dead letter topic.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Name = Annotated[str, typer.Argument(help="PARTITION:OFFSET in the dead letter topic, as `list` prints it.")]
Names = Annotated[list[str] | None, typer.Argument(help="PARTITION:OFFSET of letters; none: see --reason.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="FIELD=VALUE to correct in each letter; may be repeated; `now` for times."),
]


@app.command("list")
def list_letters(
    reason: Reason = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    requeued: Annotated[bool, typer.Option("--requeued", help="Also those that were sent back.")] = False,
    json_lines: Json = False,
    dead_letters: Topic = DEAD_LETTERS,
) -> None:
    """The newest dead letters, oldest first."""
    wanted = _Chosen.of([], reason)
    found = read(Settings.load().kafka, _since_ms(since), dead_letters)
    letters = [letter for letter in found if wanted(letter) and (requeued or not letter.requeued)]
    if json_lines:
        for letter in letters[-limit:]:
            print(json.dumps(_described(letter), ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("letter", "set aside", "reason", "from", "key", "message"):
        table.add_column(column, overflow="fold")
    for letter in letters[-limit:]:
        origin = f"{letter.topic} {letter.partition}:{letter.offset}"
        sent = " (requeued)" if letter.requeued else ""
        key = _text(letter.key)
        cells = (letter.name, _when(letter.dead_ms), letter.reason + sent, origin, key, letter.message)
        table.add_row(*map(Text, cells))  # or [verbs] would count as markup
    console = Console()
    console.print(table) if console.is_terminal else Console(width=200).print(table)
    if len(letters) > limit:
        print(f"{len(letters) - limit} older ones are not shown; --limit shows more")


@app.command()
def show(name: Name, json_lines: Json = False, dead_letters: Topic = DEAD_LETTERS) -> None:
    """One dead letter: origin, reason, its bytes, and what can be read of them."""
    settings = Settings.load()
    at = _parse_name(name)
    letter = next((one for one in read(settings.kafka, None, dead_letters) if one.at == at), None)
    if letter is None:
        raise OperatorError(
            f"there is no letter {name} in {dead_letters}; `feedrank dlq list` names those that are there",
            ExitCode.BAD_INPUT,
        )
    described = _described(letter)
    described["value_hex"] = (letter.value or b"").hex()
    try:
        described["decoded"] = decode_value(letter.value, kind_of(letter.topic), _schemas(settings.kafka))
    except Unreadable as error:
        described["decoded"], described["unreadable"] = None, str(error)
    if json_lines:
        print(json.dumps(described, ensure_ascii=False, default=str))
        return
    hexed = described.pop("value_hex")
    for name, value in described.items():
        print(f"{name:>12}  {value}")
    print(f"{'bytes':>12}  {hexed[: 2 * HEX_BYTES_MAX]}{'…' if len(hexed) > 2 * HEX_BYTES_MAX else ''}")


@app.command()
def requeue(
    names: Names = None,
    reason: Reason = None,
    since: Since = None,
    sets: Sets = None,
    now: Annotated[bool, typer.Option("--now", help="A new record timestamp, not the original.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    json_lines: Json = False,
    dead_letters: Topic = DEAD_LETTERS,
) -> None:
    """Send letters back to their topics, each once, whatever happens meanwhile."""
    if not names and not reason:
        raise OperatorError("say which: PARTITION:OFFSET of letters, or --reason; see `feedrank dlq list`")
    settings = Settings.load()
    chosen = _Chosen.of(names or [], reason)
    job = Requeue(settings.kafka, _schemas(settings.kafka), _changes(sets or []), now, dead_letters)
    done = job.run(chosen, _since_ms(since), dry_run)
    for one in done:
        if json_lines:
            line = {"letter": one.letter.name, "topic": one.topic, "partition": one.partition}
            print(json.dumps({**line, "problem": one.problem}, ensure_ascii=False))
        elif one.problem:
            print(f"{one.letter.name}  not requeued: {one.problem}")
        else:
            print(f"{one.letter.name}  {'would go' if dry_run else 'went'} to {one.topic} {one.partition}")
    absent = "there is no such letter" + (" with that --reason or --since" if reason or since else "")
    for missing in chosen.missing():
        if json_lines:
            print(json.dumps({"letter": missing, "topic": "", "partition": -1, "problem": absent}))
        else:
            print(f"{missing}  not requeued: {absent}")
    if not done and not chosen.missing() and not json_lines:
        print("no such letter that was not requeued already")
    if chosen.missing() or any(one.problem for one in done):
        raise typer.Exit(ExitCode.BAD_INPUT)


@dataclass(slots=True)
class _Chosen:
    """Whether a letter is meant: by name (none: any), by reason (none: any). `met`: the names that were."""

    names: dict[tuple[int, int], str]
    reason: str | None
    met: set[tuple[int, int]] = field(default_factory=set)

    @classmethod
    def of(cls, names: list[str], reason: str | None) -> _Chosen:
        """Raises OperatorError (usage) for what is no name and no reason."""
        if reason is not None and reason not in set(Cause) and "." not in reason:  # a class's, of Connect
            raise OperatorError(f"--reason {reason!r} is none; there are {', '.join(Cause)} (docs/wire.md)")
        return cls({_parse_name(name): name for name in names}, reason)

    def __call__(self, letter: StoredLetter) -> bool:
        if (self.names and letter.at not in self.names) or self.reason not in (None, letter.reason):
            return False
        self.met.add(letter.at)
        return True

    def missing(self) -> list[str]:
        """Names for which no letter came by."""
        return [name for at, name in self.names.items() if at not in self.met]


def _parse_name(name: str) -> tuple[int, int]:
    found = _NAME.fullmatch(name)
    if not found:
        raise OperatorError(f"{name!r} is not PARTITION:OFFSET; `feedrank dlq list` prints them so")
    return int(found[1]), int(found[2])


def _changes(sets: list[str]) -> dict[str, Any]:
    """Fields of activities, or of items where an activity has no such field."""
    now_ms = int(time.time() * 1000)
    found = {}
    for text in sets:
        try:
            name, value = parse_change(text, "activity", now_ms)
        except ValueError as error:
            try:
                name, value = parse_change(text, "item", now_ms)
            except ValueError:
                raise OperatorError(f"--set {error}") from error
        found[name] = value
    return found


def _schemas(kafka: KafkaSettings) -> Schemas:
    if not kafka.schema_registry_url:
        return BundledSchemas()
    auth = kafka.schema_registry_auth
    return BlockingSchemas(Registry(kafka.schema_registry_url, auth.get_secret_value() if auth else None))


def _since_ms(text: str | None) -> int | None:
    if text is None:
        return None
    if span := _SPAN.fullmatch(text):
        return int(time.time() * 1000) - int(span[1]) * _SECONDS[span[2]] * 1000
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise OperatorError(f"--since {text!r} is neither 30m, 2h, 7d nor an ISO time") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _described(letter: StoredLetter) -> dict[str, Any]:
    return {
        "letter": letter.name,
        "set_aside": _when(letter.dead_ms),
        "reason": letter.reason,
        "message": letter.message,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "timestamp_ms": letter.timestamp_ms,
        "job": letter.group,
        "key": None if letter.key is None else _text(letter.key),
        "value_bytes": None if letter.value is None else len(letter.value),
        "cut_from": letter.cut_from,
        "requeued": letter.requeued,
    }


def _text(data: bytes | None) -> str:
    """Bytes as text that is safe in a terminal."""
    text = (data or b"").decode("utf-8", "backslashreplace")
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _when(time_ms: int) -> str:
    """As text; a time that no calendar has, as the number that it is."""
    try:
        return (
            datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds") if time_ms >= 0 else ""
        )
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"
