"""From a real worker's served log to rows and a model that the next worker ranks with."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from importlib.resources import files
from pathlib import Path

from feedrank.dataset.table import load
from feedrank.dataset.topics import past_of
from feedrank.load.events import ActivityEvent, Event, ItemEvent
from streams.past_records import PastRecords
from streams.policy_file import read_policy
from streams.settings import Settings
from tests.integration.conftest import BEGAN_MS, ITEMS, activities
from tests.integration.job import Job
from tests.waiting import until
from topologies.history import History
from topologies.past import Past, Served, of_served
from topologies.rebuild import compared, rebuild
from wire.partitioner import partition_of

PARTITIONS = 2
HOUR_MS = 3_600_000
TICK_MS = 10_000
PARTS = 8
EDITS = {
    "served_features_share = 0.05": "served_features_share = 1.0",
    "explore_share = 0.02": "explore_share = 0.3",
    "active_days = 14": "active_days = 365",
}
COMMAND_S = 600


def policy_file(folder: Path, more: str = "") -> Path:
    """The bundled policy: all features are logged, and a third of the slots explores."""
    text = files("models").joinpath("default_policy.toml").read_text()
    for old, new in EDITS.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "policy.toml").write_text(text + more)
    return folder / "policy.toml"


def settled(job: Job, as_of_ms: int) -> list[Served]:
    """Records of the served log that are as of a settlement."""
    return [one for one in served_log(job).served if one.surface == "for_you" and one.as_of_ms == as_of_ms]


def produced_tick_by_tick(job: Job, events: list[Event]) -> None:
    """Each part once the statistics of the one before are in the index."""
    size = -(-len(events) // PARTS)
    for part in [events[at : at + size] for at in range(0, len(events), size)]:
        job.load(part)
        last_ms = dict[int, int]()
        for event in part:
            partition = partition_of(event.key.encode(), PARTITIONS)
            last_ms[partition] = max(last_ms.get(partition, 0), event.time_ms)
        tick = min(last_ms.values()) // TICK_MS if len(last_ms) == PARTITIONS else 0
        until(lambda: newest_tick(job) >= tick, "a tick", lambda: newest_tick(job))  # noqa: B023


def newest_tick(job: Job) -> int:
    """Closed by all partitions."""
    newest = dict[int, int]()
    for mark in served_log(job).marks:
        newest[mark.item_partition] = max(newest.get(mark.item_partition, 0), mark.tick)
    return min(newest.values())


def served_log(job: Job) -> Past:
    """Feeds and marks."""
    log = Past([], [])
    with PastRecords(job.kafka, job.names.served) as records:
        for record in records.records():
            value = record.value()
            assert isinstance(value, bytes)
            log.take(value, record.partition() or 0)
    assert not log.counts
    return log


def every_feed_is_rebuilt_exactly(job: Job, policy: Path) -> None:
    """Also those that were made while records came; but for the tick that the worker began with."""
    known = {"KAFKA_BOOTSTRAP_SERVERS": job.bootstrap, "FEEDRANK_NAMESPACE": job.namespace}
    settings, rules = Settings.load(known), read_policy(policy)
    past = past_of(settings, rules.verbs, PARTITIONS)
    ticks = sorted({one.tick for one in past.served})
    wanted = [one for one in past.served if one.surface == "for_you" and one.tick > ticks[1]]
    history, counts = History(rules.verbs, settings.ranking.tick_s * 1_000), Counter[str]()
    for one in rebuild(past, history, rules, [of_served(one) for one in wanted], counts):
        assert one.slate.served is not None
        compared(one, one.slate.served, counts)
    assert len({one.tick for one in wanted}) > 1
    assert counts["logged entries compared"] == sum(len(one.featured) for one in wanted)
    assert counts["logged values that differ"] == 0


def looked(job: Job, feeds: list[Served], at_ms: int) -> list[Event]:
    """Everybody looks at eight entries and likes every other one of the first four."""
    done: list[Event] = []
    for number, feed in enumerate(feeds):
        user, slate = feed.user.decode(), f"for_you:{job.namespace}:{feed.version}:0"
        for place, item in enumerate(feed.ids[:8]):
            at = at_ms + number * 60_000 + place
            shown = ActivityEvent(f"s{at}", user, "impression", item, at, position=place, slate_id=slate)
            done.append(shown)
            if place in (0, 2):
                done.append(ActivityEvent(f"l{at}", user, "like", item, at + 30_000, slate_id=slate))
                done.append(ActivityEvent(f"c{at}", user, "click", item, at + 20_000, slate_id=slate))
    later = at_ms + 4 * HOUR_MS
    nobody = f"for_you:{job.namespace}:000009-000000000000000-000000000000-000000000000000:0"
    done.append(ActivityEvent("nobody", "somebody", "impression", "i1", at_ms, slate_id=nobody))
    done.append(ActivityEvent("later", "somebody", "visit", "feed", later))
    return sorted(done, key=lambda event: event.time_ms)


def command(job: Job, *arguments: str) -> str:
    """Run `feedrank` beside the workers; its output."""
    done = subprocess.run(
        [sys.executable, "-m", "feedrank.cli", *arguments],
        env=job.environment(), capture_output=True, text=True, timeout=COMMAND_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_from_served_feeds_to_a_model_in_the_job(
    public_kafka: str, redis_url: str, tmp_path: Path, namespace: str
) -> None:
    policy = policy_file(tmp_path)
    with Job(public_kafka, redis_url, tmp_path, namespace, {"FEEDRANK_POLICY": str(policy)}) as job:
        job.create_topics(PARTITIONS)
        items = [ItemEvent(f"i{n}", f"author-{n % 7}", BEGAN_MS, BEGAN_MS, ("tea",)) for n in range(ITEMS)]
        acts = activities(1_500, 0)
        job.load([*items, *acts])
        worker = job.start_worker()
        end_ms = max(event.time_ms for event in acts)
        as_of_ms = -(-end_ms // 10_000) * 10_000
        job.settle(as_of_ms)
        count = len(job.settled_feeds("for_you", as_of_ms))
        until(lambda: len(settled(job, as_of_ms)) >= count, "served records", lambda: settled(job, as_of_ms))
        produced_tick_by_tick(job, looked(job, settled(job, as_of_ms), as_of_ms + HOUR_MS))
        out = tmp_path / "log.parquet"
        told = command(job, "dataset", "topics", str(out), "--candidates", "--valid", "0.1", "--test", "0.1")
        counts = load(out).meta["counts"]
        assert counts["impressions of a slate nobody issued"] == 1
        assert counts["logged entries compared"] >= 20 * count
        assert "logged values that differ" not in counts, told
        every_feed_is_rebuilt_exactly(job, policy)
        data = load(out)
        assert data.shown.sum() == counts["rows"] - counts["rows not shown"] > 6 * count
        assert data.labels[1].sum() == counts["actions joined by slate"] / 2
        assert (data.propensity[data.shown] > 0).sum() > count
        command(job, "train", str(out), str(tmp_path / "m"))
        assert worker.stop() == 0
        policy_file(tmp_path, '\n[model]\nlight = "m"\n')
        job.start_worker()
        job.settle(as_of_ms + 6 * HOUR_MS)
        name = json.loads((tmp_path / "m" / "manifest.json").read_text())
        heads = job.settled_feeds("for_you", as_of_ms + 6 * HOUR_MS)
        assert heads
        assert {head["model"].decode() for head in heads.values()} == {f"m-{name['hash'][:8]}"}
