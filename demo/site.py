"""Everything that a demo runs on: directory, processes, and our own connections to them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from demo.embedded import start_kafka, start_redis
from demo.environment import FEEDRANK, environment_with, settings_file, settings_of
from demo.outbox import Recording
from demo.people import People
from demo.processes import Child, Children, start
from demo.simulator import Task
from demo.topic_log import ActivityTail, TopicLog
from demo.visitor import Visitor
from serving.reader import FeedReader
from streams.settings import Settings
from streams.topics_admin import TopicsAdmin

Own = TypeVar("Own", TopicLog, ActivityTail, FeedReader, Recording)
RECORDING = "activities.jsonl"
SETTINGS = "settings.env"


@dataclass(slots=True)
class Site:
    """Directory and processes of one run under `root`; `close` ends every process, whatever has happened.

    A run's logs are kept when it fails; the recording always is, as `root`/activities.jsonl.
    """

    root: Path
    run: str = field(default_factory=lambda: f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}")
    children: Children = field(default_factory=Children)
    settings: Settings = field(init=False)
    people: People = field(init=False)
    worker: Child = field(init=False)
    api: Child = field(init=False)
    log: TopicLog = field(init=False)
    tail: ActivityTail = field(init=False)
    visitor: Visitor = field(init=False)
    recording: Recording = field(init=False)
    _environment: Mapping[str, str] = field(init=False)
    _text: str = ""
    _ours: list[TopicLog | ActivityTail | FeedReader | Recording] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        return self.root / self.run

    @property
    def recorded(self) -> Path:
        """What everyone sent, in the format of `feedrank load jsonl`."""
        return self.directory / RECORDING

    @property
    def told(self) -> Path:
        """Where other commands read how to reach this run, as long as it lasts."""
        return self.root / SETTINGS

    @property
    def worker_url(self) -> str:
        return f"http://{self.settings.worker.host}:{self.settings.worker.port}"

    @property
    def page_url(self) -> str:
        host = self.settings.api.host
        return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{self.settings.api.port}/"

    def start_servers(self) -> None:
        """Kafka with its topics, and Redis. Raises OperatorError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        kafka = self.children.add(start_kafka(self.directory))
        redis = self.children.add(start_redis(self.directory))
        given = settings_of(kafka.address, redis.address, self.directory / "data")
        self._environment = environment_with(given)
        self.settings = Settings.load(given)
        TopicsAdmin(self.settings.kafka, self.settings.names).create()
        self._text = settings_file(given)
        self.told.write_text(self._text, encoding="utf-8")

    def start_processes(self, task: Task) -> None:
        """The simulated people, the worker and the API; all begin at once."""
        self.people = People.begin(task, self.directory, self._environment)
        self.children.add(self.people.child)
        self.start_worker()
        self.api = self.children.add(start("api", [*FEEDRANK, "serve"], self.directory, self._environment))
        self.log = self._own(TopicLog(self.settings.kafka, self.settings.names))
        self.tail = self._own(ActivityTail(self.settings.kafka, task.run))
        reader = FeedReader.from_url(self.settings.redis.address, namespace=self.settings.names.name)
        self.visitor = Visitor(self._own(reader))
        self.recording = self._own(Recording(self.recorded))

    def start_worker(self) -> None:
        """Start the worker, or start it again."""
        self.worker = self.children.add(
            start("worker", [*FEEDRANK, "worker"], self.directory, self._environment)
        )

    def kill_worker(self) -> None:
        """kill -9."""
        self.children.forget(self.worker)
        self.worker.kill()

    def _own(self, one: Own) -> Own:
        self._ours.append(one)
        return one

    def close(self, keep_logs: bool) -> None:
        """End everything; keep the recording, and the logs where asked to."""
        try:
            for one in reversed(self._ours):
                one.close()
        finally:
            self.children.stop_all()
            self._clear(keep_logs)

    def _clear(self, keep_logs: bool) -> None:
        if self.recorded.exists():
            self.recorded.replace(self.root / RECORDING)
        if self._text and self.told.exists() and self.told.read_text(encoding="utf-8") == self._text:
            self.told.unlink(missing_ok=True)  # else a later run has begun here
        shutil.rmtree(self.directory / "data", ignore_errors=True)
        if not keep_logs:
            shutil.rmtree(self.directory, ignore_errors=True)
