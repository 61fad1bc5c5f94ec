"""`feedrank demo` as a visitor runs it, without a terminal: it balances, ends, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from feedrank.load import jsonl
from feedrank.load.events import ItemEvent
from streams.errors import ExitCode
from tests.waiting import GUARD_S, slowness

ENDS_EARLY_S = 30.0
LEDGER = re.compile(
    r"ledger: ([\d,]+) sent = ([\d,]+) applied \+ ([\d,]+) duplicates \+ ([\d,]+) dead-lettered "
    r"\+ ([\d,]+) withdrawn: it balances"
)


def clean() -> dict[str, str]:
    """The environment without settings."""
    return {n: v for n, v in os.environ.items() if not n.startswith(("KAFKA_", "REDIS_", "FEEDRANK_"))}


@dataclass
class Run:
    """One demo in a directory of its own. `mark` is in the environment of all that it starts."""

    directory: Path
    process: subprocess.Popen[str]
    mark: str
    lines: list[str] = field(default_factory=list)

    def read_until(self, wanted: str) -> None:
        """Read its output up to the first line that contains `wanted`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if wanted in line:
                return
        pytest.fail("\n".join([f"{wanted!r} was not said", *self.lines]))

    def end(self) -> int:
        """Wait for its end; the exit code."""
        assert self.process.stdout is not None
        self.lines += [line.rstrip() for line in self.process.stdout]
        return self.process.wait(GUARD_S)

    def command(self, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Another command in the demo's directory, with these settings only."""
        return subprocess.run(
            [sys.executable, "-m", "feedrank.cli", *words],
            cwd=self.directory,
            env={**clean(), **settings},
            capture_output=True,
            text=True,
            timeout=GUARD_S,
        )

    @property
    def said(self) -> str:
        return "\n".join(self.lines)

    def running(self, *words: str) -> list[int]:
        """Processes of this demo whose command line has all the words."""
        found = []
        for place in Path("/proc").iterdir():
            if place.name.isdigit() and int(place.name) != os.getpid():
                try:
                    environment, command = (place / "environ").read_bytes(), (place / "cmdline").read_bytes()
                except OSError:
                    continue
                if self.mark.encode() in environment and all(w.encode() in command for w in words):
                    found.append(int(place.name))
        return found


Demo = Callable[..., Run]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    runs: list[Run] = []

    def begin(**settings: str) -> Run:
        mark = uuid.uuid4().hex
        process = subprocess.Popen(
            [sys.executable, "-m", "feedrank.cli", "demo"],
            cwd=tmp_path,
            env={**clean(), **settings, "DEMO_TEST_MARK": mark, "API_PORT": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        runs.append(Run(tmp_path, process, mark))
        return runs[-1]

    yield begin
    for run in runs:
        run.process.kill()
        run.process.wait()
        assert run.process.stdout is not None
        run.process.stdout.close()
        for pid in run.running():
            with contextlib.suppress(ProcessLookupError):  # ended since
                os.kill(pid, signal.SIGKILL)


def assert_replays(run: Run) -> None:
    """The command that the demo names makes the demo's own rows and feeds again."""
    expected = re.search(r"digest: (\w{64})", run.said)
    command = re.search(r"TICK_S=1 (.*feedrank\S*) (replay .*) && \1 digest again", run.said)
    assert expected, run.said
    assert command, run.said
    said = ""
    for words in (command[2].split(), ["digest", "again"]):
        done = run.command(*words, TICK_S="1")
        assert done.returncode == 0, done.stdout + done.stderr
        said += done.stdout
    assert f"digest {expected[1]}" in said, said


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes under /proc; run it on Linux")
class TestDemo:
    """The whole, as `make demo` runs it."""

    def test_it_kills_its_worker_and_the_ledger_balances(self, demo: Demo) -> None:
        run = demo(DURATION_S="12", KILL_AFTER_S="5")
        assert run.end() == ExitCode.OK, run.said
        found = LEDGER.search(run.said)
        assert found, run.said
        sent, applied, duplicates, dead, withdrawn = (int(n.replace(",", "")) for n in found.groups())
        assert sent == applied + duplicates + dead + withdrawn
        assert min(applied, duplicates) > 0
        for line in (
            "cannot fence",
            "your page: http://",
            "worker killed (kill -9)",
            "ranked - chronological",
        ):
            assert line in run.said
        assert re.search(r"worker back after [\d.]+ s, replays [\d,]+ activities", run.said), run.said
        assert re.search(r"feeds:  [1-9][\d,]* written; event to Redis p50 (> )?\d", run.said), run.said
        assert run.running() == []
        recorded = list(jsonl.events(run.directory / "run/demo/activities.jsonl"))
        assert sum(hasattr(event, "verb") for event in recorded) == sent - dead
        assert sum(not isinstance(event, ItemEvent) for event in recorded) == sent
        assert [p.name for p in (run.directory / "run/demo").iterdir()] == ["activities.jsonl"]
        assert_replays(run)

    def test_other_commands_find_it_and_sigterm_ends_it_early_with_a_ledger(self, demo: Demo) -> None:
        run = demo(DURATION_S="0", KILL_AFTER_S="0")
        run.read_until("people come and go")
        told = re.search(r"FEEDRANK_SETTINGS_FILE=(\S+)", run.said)
        assert told, run.said
        other = run.command("topics", "check", FEEDRANK_SETTINGS_FILE=told[1])
        assert other.returncode == 0, other.stderr
        assert "demo" in other.stdout
        run.process.send_signal(signal.SIGTERM)
        started_s = time.monotonic()
        assert run.end() == ExitCode.OK, run.said
        assert time.monotonic() - started_s < ENDS_EARLY_S * slowness()
        assert LEDGER.search(run.said), run.said
        assert run.running() == []

    def test_a_process_that_dies_ends_it_with_a_clear_line(self, demo: Demo) -> None:
        run = demo(DURATION_S="60", KILL_AFTER_S="0")
        run.read_until("people come and go")
        (api,) = run.running("feedrank.cli", "serve")
        os.kill(api, signal.SIGKILL)
        assert run.end() == ExitCode.INTERNAL, run.said
        assert "the api has ended by itself with code -9; its log is run/demo/" in run.said
        assert run.running() == []

    def test_interrupted_while_it_starts_it_leaves_nothing(self, demo: Demo) -> None:
        run = demo(DURATION_S="60")
        while not run.running("demo.simulator"):
            assert run.process.poll() is None, run.said
            time.sleep(0.02)
        run.process.send_signal(signal.SIGINT)
        assert run.end() == ExitCode.INTERRUPTED, run.said
        assert run.running() == []

    def test_a_wrong_duration_is_refused(self, demo: Demo) -> None:
        run = demo(DURATION_S="soon")
        assert run.end() == ExitCode.USAGE
        assert "DURATION_S" in run.said
