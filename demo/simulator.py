"""The simulated people's process: makes the world, a past, then sessions at a steady pace.

It says how it goes as JSON lines on stdout; `go` on stdin starts the sessions, the end of stdin ends it.
Whoever started it holds the other end of stdin: when that process is gone, so is this one.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import orjson

from demo.groups import SLATE_ITEMS, Slates
from demo.outbox import KafkaOutbox, Recording
from demo.pace import Pace
from demo.traffic import Traffic
from demo.world import World
from serving.errors import FeedError
from serving.reader import FeedReader
from streams.errors import OperatorError
from streams.settings import Settings

SEED = 20
SESSIONS_PER_S = 40.0
ITEMS_PER_S = 2.0
FIRST_ITEMS = 500
PAST_SESSIONS = 2_500
PAST_MS = 36 * 3_600_000
REPORT_S = 0.5
TURN_S = 0.2
"""People act five times a second, all together: the mock broker hands out one produced batch per fetch."""
GO = b"go\n"


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked of the process, as one JSON argument. `run` begins every activity's id."""

    run: str
    recording: str
    seed: int = SEED
    sessions_per_s: float = SESSIONS_PER_S
    items_per_s: float = ITEMS_PER_S
    first_items: int = FIRST_ITEMS
    past_sessions: int = PAST_SESSIONS


@dataclass(slots=True)
class Simulator:
    """The people, where their records go, and when they act."""

    task: Task
    outbox: KafkaOutbox
    traffic: Traffic
    go: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """All of it: past, sessions, last report."""
        self.prepare(_now_ms())
        self.report("ready")
        while not (self.go.wait(TURN_S) or self.stop.is_set()):
            self.outbox.poll()
        self.live()
        self.outbox.flush()
        self.report("done")

    def prepare(self, now_ms: int) -> None:
        """The catalogue and what people did with it before: more of it lately than long ago."""
        traffic, rng = self.traffic, self.traffic.rng
        begin_ms = now_ms - PAST_MS
        for at_ms in _spread(begin_ms, now_ms, self.task.first_items, rng):
            traffic.publish(at_ms)
        self.outbox.flush()
        traffic.follow_all(begin_ms)
        for at_ms in _spread(begin_ms + PAST_MS // 10, now_ms, self.task.past_sessions, rng):
            traffic.past_session(at_ms)
            self.outbox.poll()
            if self.stop.is_set():
                break
        traffic.welcome(_now_ms())
        self.outbox.past_is_over()

    def live(self) -> None:
        """Sessions and new items at their pace until told to stop."""
        now_s = time.monotonic()
        sessions, items = Pace(self.task.sessions_per_s, now_s), Pace(self.task.items_per_s, now_s)
        reports = Pace(1 / REPORT_S, now_s)
        while not self.stop.wait(TURN_S):
            now_s = time.monotonic()
            fresh = items.due(now_s)
            for _ in range(fresh):
                self.traffic.publish(_now_ms())
            if fresh:
                self.outbox.flush()  # an item is there before anyone acts on it
            for _ in range(sessions.due(now_s)):
                self.traffic.session(_now_ms())
            self.outbox.poll()
            if reports.due(now_s):
                self.report("live")

    def report(self, phase: str) -> None:
        """One line about what was done so far."""
        line = {
            "phase": phase,
            "acked": self.outbox.acked,
            "items": self.outbox.items,
            "sessions": self.traffic.sessions,
            "sent": asdict(self.traffic.sent),
            "groups": {group: asdict(count.rate()) for group, count in self.traffic.through.items()},
        }
        sys.stdout.buffer.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()

    def obey(self) -> None:
        """Read stdin until it ends. Unbuffered: a buffer's lock would be in the way of leaving early."""
        while said := os.read(sys.stdin.fileno(), 64):
            if GO in said:
                self.go.set()
        self.stop.set()


def _spread(begin_ms: int, end_ms: int, count: int, rng: np.random.Generator) -> list[int]:
    """`count` times in order, denser towards the end."""
    share = np.sort(np.sqrt(rng.random(count)))
    return [begin_ms + int(x * (end_ms - begin_ms)) for x in share]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def feeds_of(reader: FeedReader) -> Callable[[str], tuple[list[str], str | None]]:
    """How a ranked person reads: one page, as any application would; nothing while Redis is away."""

    def read(user: str) -> tuple[list[str], str | None]:
        try:
            page = reader.page(user, limit=SLATE_ITEMS)
        except FeedError:
            return [], None
        return [entry.id for entry in page.entries], page.slate_id

    return read


def main(argument: str) -> None:
    """Run the task that `argument` holds."""
    task = Task(**orjson.loads(argument))
    settings = Settings.load()
    reader = FeedReader.from_url(settings.redis.address, namespace=settings.names.name)
    outbox = KafkaOutbox(settings.kafka, Recording(Path(task.recording)))
    world = World(task.seed)
    traffic = Traffic(
        world, Slates(world, feeds_of(reader)), outbox, np.random.default_rng(task.seed + 1), task.run
    )
    simulator = Simulator(task, outbox, traffic)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: simulator.stop.set())
    threading.Thread(target=simulator.obey, daemon=True).start()
    simulator.run()


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except OperatorError as error:
        sys.exit(f"feedrank: {error.message}")
