"""The demo from its start to its ledger: people, worker, kill, view."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from demo.embedded import KAFKA_CANNOT
from demo.ledger import Ledger
from demo.settled import Settled, digest_of, settle
from demo.show import Show
from demo.simulator import Task
from demo.site import Site
from demo.snapshot import Snapshot
from demo.topic_log import ForeignAct
from demo.worker_metrics import WorkerNumbers, fetch, parse
from streams.errors import ExitCode, OperatorError
from wire.names import ACTIVITIES

START_DEADLINE_S = 120.0
RANKED_DEADLINE_S = 15.0
DRAIN_STILL_S = 30.0
"""So long nothing was committed: a machine that is only slow gets its time."""
PEOPLE_STOP_S = 30.0
TURN_S = 0.1
LOOK_S = 0.5
EVENTS_KEPT = 50


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the end of a run prints. `problems` is empty when all is well; `settled` None: feeds were not."""

    ledger: Ledger
    numbers: WorkerNumbers
    last: Snapshot
    problems: tuple[str, ...]
    settled: Settled | None


@dataclass(slots=True)
class Demo:
    """One run. `stop` ends it early, in good order. Times in s; `kill_after_s` 0: never, `duration_s` 0:
    until `stop`."""

    site: Site
    duration_s: float
    kill_after_s: float
    stop: threading.Event = field(default_factory=threading.Event)
    numbers: WorkerNumbers = field(default_factory=WorkerNumbers)
    snapshot: Snapshot = field(default_factory=Snapshot)
    _events: list[tuple[float, str]] = field(default_factory=list)
    _began_s: float = 0.0
    _looked_s: float = float("-inf")
    _killed_s: float | None = None
    _floor: dict[int, int] = field(default_factory=dict)
    """By partition: the checkpoint that the killed worker left. Until it has read that, it is down."""
    _down: bool = False
    _finishing: bool = False

    # -- start ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything; return when the visitor's feed is there. Raises OperatorError."""
        print("an embedded Kafka and Redis, simulated people, a worker, the API", flush=True)
        print(f"(a stand-in for Kafka: it cannot {KAFKA_CANNOT})", flush=True)
        self.site.start_servers()
        task = Task(run=self.site.run, recording=str(self.site.recorded))
        self.site.start_processes(task)
        begun_s = time.monotonic()
        self._await("the worker to be ready", self._worker_ready, START_DEADLINE_S)
        self._await("the people to be ready", lambda: self.site.people.phase == "ready", START_DEADLINE_S)
        self._await("the API to be ready", self._api_ready, START_DEADLINE_S)
        self._await("the visitor's feed", self._first_feed, START_DEADLINE_S, moving=self._worked)
        self._await("the first feeds of everyone", self._all_ranked, RANKED_DEADLINE_S, must=False)
        took_s = time.monotonic() - begun_s
        print(f"ready after {took_s:.1f} s with {self.site.tail.read:,} activities of the past", flush=True)
        print(f"your page: {self.site.page_url}", flush=True)
        print(f"other commands find all this with FEEDRANK_SETTINGS_FILE={self.site.told}", flush=True)

    def _await(
        self,
        what: str,
        reached: Callable[[], bool],
        deadline_s: float,
        must: bool = True,
        moving: Callable[[], object] = lambda: None,
    ) -> None:
        """Wait for a condition, `deadline_s` from when `moving` last told something else.

        Raises OperatorError when a process dies or (`must`) it takes too long.
        """
        seen, until_s = moving(), time.monotonic() + deadline_s
        while not reached():
            self.site.children.check()
            if self._finishing:
                time.sleep(TURN_S)
            elif self.stop.wait(TURN_S):
                raise KeyboardInterrupt
            if time.monotonic() > until_s:
                if seen != (seen := moving()):
                    until_s = time.monotonic() + deadline_s
                    continue
                if not must:
                    return
                raise OperatorError(
                    f"waited {deadline_s:.0f} s for {what}; close what else keeps this machine busy and try "
                    f"again, or see the logs in {self.site.directory}",
                    ExitCode.STALLED,
                )

    def _worked(self) -> dict[str, float]:
        """What the worker has counted: grows while it works, however slowly."""
        return dict(self.numbers.counters)

    def _worker_ready(self) -> bool:
        return fetch(f"{self.site.worker_url}/readyz")[0] == 200

    def _api_ready(self) -> bool:
        return fetch(f"{self.site.page_url}readyz")[0] == 200

    def _first_feed(self) -> bool:
        self._look(time.monotonic())
        return self.site.visitor.shown is not None

    def _all_ranked(self) -> bool:
        self._look(time.monotonic())
        return self._lag() == 0 and not self.numbers.last.gauges.get("due")

    # -- while it runs ----------------------------------------------------------------------------------

    def live(self, show: Show) -> None:
        """Let people act until the time is over or `stop` is set; OperatorError when a process dies."""
        self._began_s = time.monotonic()
        self.numbers.begin()
        self.site.people.go()
        self._say("people come and go")
        while not self.stop.wait(TURN_S) and not self._over():
            self._turn(show)
        self.snapshot = self._snapshot("finishing")
        show.update(self.snapshot)

    def _over(self) -> bool:
        return bool(self.duration_s) and self._elapsed_s() >= self.duration_s

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def _turn(self, show: Show) -> None:
        self.site.children.check()
        if self.kill_after_s and self._killed_s is None and self._elapsed_s() >= self.kill_after_s:
            self._kill()
        now_s = time.monotonic()
        if now_s - self._looked_s >= LOOK_S or self._down:
            self._look(now_s)
        self.snapshot = self._snapshot("")
        show.update(self.snapshot)

    def _kill(self) -> None:
        """kill -9, note how far its last checkpoint was, start it again."""
        self.site.kill_worker()
        self._killed_s = time.monotonic()
        self._say("worker killed (kill -9) and started again")
        self._down = True
        self.site.start_worker()
        self._floor = {p: account.position for p, account in self.site.log.accounts().items()}
        self.numbers.restarted()

    def _is_back(self) -> bool:
        """Whether the worker has found its rows and gone on from its checkpoint in every partition."""
        there = self.numbers.last.positions
        return bool(there) and all(there.get(p, -1) >= floor for p, floor in self._floor.items())

    def _back(self) -> None:
        assert self._killed_s is not None
        self._down = False
        took_s = time.monotonic() - self._killed_s
        behind = self.site.tail.read - sum(self._floor.values())
        self._say(f"worker back after {took_s:.1f} s, replays {behind:,} activities since its checkpoint")

    def _look(self, now_s: float) -> None:
        """Read what the processes say and what is in Kafka and Redis."""
        self._looked_s = now_s
        self._record(self.site.tail.poll(), now_s)
        status, text = fetch(f"{self.site.worker_url}/metrics")
        if status == 200:
            self.numbers.take(parse(text, ACTIVITIES), now_s)
            if self._down and self._is_back():
                self._back()
        moved = self.site.visitor.look(now_s)
        if moved is not None:
            self._say(moved.said())

    def _record(self, acts: list[ForeignAct], now_s: float) -> None:
        for act in acts:
            self.site.recording.add("activity", act.fields)
        self.site.recording.write()
        self.site.visitor.did(acts, now_s)

    def _say(self, what: str) -> None:
        self._events.append((self._elapsed_s(), what))
        del self._events[:-EVENTS_KEPT]

    def _lag(self) -> int:
        at = self.numbers.last.positions
        ends = self.site.tail.next_offset.items()
        return sum(max(0, end - max(at.get(p, 0), self._floor.get(p, 0))) for p, end in ends)

    def _snapshot(self, phase: str) -> Snapshot:
        numbers, site = self.numbers, self.site
        counters = numbers.counters
        return Snapshot(
            elapsed_s=self._elapsed_s(),
            duration_s=self.duration_s,
            url=site.page_url,
            phase=phase,
            activities_per_s=numbers.per_s("applied") + numbers.per_s("duplicates") + numbers.per_s("dead"),
            lag=self._lag(),
            feeds_per_s=numbers.per_s("feeds"),
            p50_s=numbers.recent_quantile(0.5),
            p99_s=numbers.recent_quantile(0.99),
            duplicates=int(counters.get("duplicates", 0)),
            undone=int(counters.get("undone", 0)),
            dead=int(counters.get("dead", 0)),
            items=int(numbers.last.gauges.get("items", 0)),
            due=int(numbers.last.gauges.get("due", 0)),
            worker_up=not self._down,
            groups=site.people.groups,
            shown=site.visitor.shown,
            now_ms=time.time_ns() // 1_000_000,
            moved=site.visitor.moved,
            events=tuple(self._events),
        )

    # -- the end ----------------------------------------------------------------------------------------

    def finish(self) -> Outcome:
        """Let everyone finish, wait until the worker has checkpointed all of it, draw up the ledger.

        Raises OperatorError when a process dies.
        """
        site, self._finishing = self.site, True
        if site.people.finish(PEOPLE_STOP_S):
            raise site.people.child.failure()
        site.api.stop()
        ends = site.log.ends()
        self._look(time.monotonic())
        self._await(
            "the last checkpoint",
            lambda: self._all_committed(ends),
            DRAIN_STILL_S,
            must=False,
            moving=self._committed,
        )
        self._look(time.monotonic())
        self.snapshot = replace(self._snapshot("done"), groups=site.people.groups)
        settled_ms = settle(site.settings, ends)
        if site.worker.stop():
            raise site.worker.failure()
        settled = None if settled_ms is None else digest_of(site.settings, settled_ms, ends)
        ledger = Ledger(ends, site.log.accounts(), site.people.sent, site.people.acked)
        return Outcome(ledger, self.numbers, self.snapshot, tuple(self._problems(ledger)), settled)

    def _committed(self) -> dict[int, int]:
        return {partition: account.position for partition, account in self.site.log.accounts().items()}

    def _all_committed(self, ends: dict[int, int]) -> bool:
        self._look(time.monotonic())
        return self._committed() == {p: end for p, end in ends.items() if end}

    def _problems(self, ledger: Ledger) -> list[str]:
        found = ledger.problems()
        if not self.numbers.counters.get("feeds"):
            found.append("no feed was emitted")
        return found
