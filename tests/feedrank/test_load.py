"""Readers of real data: what becomes of each kind of line, order, bad lines; and sending to a real Kafka."""

from __future__ import annotations

import gzip
import json
import tomllib
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from feedrank import cli
from feedrank.load import jsonl, ranklens, uboot
from feedrank.load.events import ActivityEvent, Event, ItemEvent, RawEvent, Tally
from feedrank.load.send import encoder
from streams.errors import ExitCode, OperatorError
from wire.names import ACTIVITIES, ITEMS
from wire.partitioner import partition_of

ROOT = Path(__file__).resolve().parents[2]


def lines(path: Path, *objects: object) -> Path:
    path.write_text("".join((o if isinstance(o, str) else json.dumps(o)) + "\n" for o in objects))
    return path


POST = {
    "t": 100,
    "actor": "ann",
    "verb": "post",
    "object": "c1",
    "topic": "net",
    "prefix": "tcp",
    "nfiles": 2,
}
REVIEW = {"t": 150, "actor": "bob", "verb": "review", "object": "c1", "author": "ann"}


def test_a_post_is_an_item_and_a_review_an_activity(tmp_path: Path) -> None:
    item, review = uboot.events(lines(tmp_path / "x", POST, REVIEW))
    assert item == ItemEvent(
        "c1", "ann", 100_000, 100_000, ("net", "subject/tcp"), title="tcp: change in net", kind="commit"
    )
    assert review == ActivityEvent("review:bob:c1", "bob", "comment", "c1", 150_000)


def test_a_mention_is_skipped_and_counted(tmp_path: Path) -> None:
    tally = Tally()
    mention = {"t": 1, "actor": "ann", "verb": "mention", "object": "bob", "commit": "c1"}
    assert list(uboot.events(lines(tmp_path / "x", mention), tally)) == []
    assert (sum(tally.skipped.values()), tally.bad) == (1, 0)


def test_an_item_comes_before_what_is_done_to_it_even_when_its_clock_is_late(tmp_path: Path) -> None:
    early = REVIEW | {"t": 90}
    item, review = uboot.events(lines(tmp_path / "x", early, POST))
    assert isinstance(item, ItemEvent)
    assert (item.created_ms, item.time_ms, item.topics) == (90_000, 90_000, ("net", "subject/tcp"))
    assert review.time_ms == 90_000


def test_an_interaction_without_a_post_brings_its_item(tmp_path: Path) -> None:
    item, _ = uboot.events(lines(tmp_path / "x", REVIEW))
    assert item == ItemEvent("c1", "ann", 150_000, 150_000, kind="commit")


def test_follows_are_merged_in_time_after_what_happened_in_the_same_second(tmp_path: Path) -> None:
    follows = tmp_path / "f.tsv"
    follows.write_text("first_interaction_ts\tfollower\tfollowee\n150\tbob\tann\n120\tcy\tann\nx\ty\n")
    tally = Tally()
    found = list(uboot.events(lines(tmp_path / "x", POST, REVIEW), tally, follows))
    assert [getattr(e, "verb", "item") for e in found] == ["item", "follow", "comment", "follow"]
    assert found[1] == ActivityEvent("follow:cy:ann", "cy", "follow", "ann", 120_000, target="author")
    assert tally.shown == [f"{follows} line 4: not three columns: seconds, follower, followee"]


RANKING = {
    "event": "ranking",
    "id": "r1",
    "user": "u1",
    "timestamp": "2000",
    "items": [{"id": "7"}, {"id": "8"}],
}
MOVIE_FIELDS = [
    {"name": "title", "value": "Heat"},
    {"name": "genres", "value": ["crime"]},
    {"name": "tags", "value": ["bank", "crime"]},
    {"name": "director", "value": "mann"},
]
MOVIE = {"event": "item", "item": "7", "timestamp": "1000", "fields": MOVIE_FIELDS}
CLICK = {
    "event": "interaction",
    "type": "click",
    "id": "k1",
    "user": "u1",
    "ranking": "r1",
    "item": "8",
    "timestamp": "7000",
}


def test_a_ranking_becomes_impressions_with_position_and_slate(tmp_path: Path) -> None:
    movie, unknown, first, second, click = ranklens.events(lines(tmp_path / "x", MOVIE, RANKING, CLICK))
    assert movie == ItemEvent("7", "mann", 1000, 1000, ("crime", "bank"), title="Heat", kind="movie")
    assert unknown == ItemEvent("8", "unknown", 2000, 2000, kind="movie")
    assert first == ActivityEvent("r1:0", "u1", "impression", "7", 2000, position=0, slate_id="r1")
    assert (second.position, second.object) == (1, "8")  # type: ignore[union-attr]
    assert click == ActivityEvent("k1", "u1", "click", "8", 7000, position=1, slate_id="r1")


def test_a_click_on_a_ranking_that_was_never_shown_is_a_bad_line(tmp_path: Path) -> None:
    tally = Tally()
    assert list(ranklens.events(lines(tmp_path / "x", CLICK), tally)) == []
    assert tally.shown[0].endswith("line 1: ranking r1 has not been shown")


ITEM = {"type": "item", "item_id": "i1", "author": "ann", "created_at": 1_000, "topics": ["tea"]}
LIKE = {
    "type": "activity",
    "actor": "bob",
    "verb": "like",
    "object": "i1",
    "event_time": "1970-01-01T00:00:02Z",
}


def test_generic_lines_carry_every_field(tmp_path: Path) -> None:
    full = LIKE | {
        "activity_id": "a1",
        "target": "author",
        "dwell_ms": 5,
        "position": 0,
        "slate_id": "s",
        "undone_verb": "like",
        "undone_event_time": 1_500,
    }
    item, like = jsonl.events(lines(tmp_path / "x", ITEM | {"embedding": [1, 0.5], "title": "Tea"}, full))
    assert item == ItemEvent("i1", "ann", 1_000, 1_000, ("tea",), "Tea", None, (1.0, 0.5))
    assert like == ActivityEvent("a1", "bob", "like", "i1", 2_000, "author", 5, 0, "s", "like", 1_500)


def test_a_record_is_kept_as_it_was(tmp_path: Path) -> None:
    raw = {"type": "record", "key": "bob", "timestamp": 1_767_254_400_000, "value": "AAAAAAB7"}
    bad = {**raw, "value": "no base64"}
    tally = Tally()
    (event,) = jsonl.events(lines(tmp_path / "x", raw, bad), tally)
    assert event == RawEvent("bob", b"\0\0\0\0\0{", 1_767_254_400_000)
    assert encoder("avro")(event) == b"\0\0\0\0\0{"
    assert tally.bad == 1


def test_an_activity_without_id_gets_the_same_one_each_time(tmp_path: Path) -> None:
    first, again, other = jsonl.events(lines(tmp_path / "x", LIKE, LIKE, LIKE | {"object": "i2"}))
    assert first == again
    assert first.activity_id != other.activity_id  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ({"type": "thing"}, "type is 'thing'"),
        ({k: v for k, v in LIKE.items() if k != "verb"}, "lacks 'verb'"),
        (LIKE | {"actor": ""}, "actor has 0 bytes"),
        (LIKE | {"actor": "é" * 65}, "actor has 130 bytes"),
        (LIKE | {"actor": 5}, "actor is not text"),
        (LIKE | {"actor": "\ud800"}, "actor is not UTF-8"),
        (LIKE | {"event_time": "2026-01-01T00:00:00"}, "no time zone"),
        (LIKE | {"event_time": "tomorrow"}, "Invalid isoformat"),
        (LIKE | {"event_time": True}, "whole number"),
        (LIKE | {"dwell_ms": -1}, "whole number"),
        (LIKE | {"position": 99_999_999_999_999}, "position is not a whole number from 0 to 2,147,483,647"),
        (LIKE | {"dwell_ms": 1 << 31}, "dwell_ms is not a whole number from 0 to 2,147,483,647"),
        (
            LIKE | {"event_time": 10**23},
            "event_time is not a whole number from 0 to 9,223,372,036,854,775,807",
        ),
        (LIKE | {"undone_event_time": 1 << 63}, "undone_event_time is not a whole number from 0 to"),
        (LIKE | {"type": "record", "key": "b", "value": "", "timestamp": 1 << 63}, "unknown field actor"),
        (
            {"type": "record", "key": "b", "value": "", "timestamp": 1 << 63},
            "timestamp is not a whole number",
        ),
        (ITEM | {"created_at": 1 << 63}, "created_at is not a whole number from 0 to"),
        (ITEM | {"embedding": [10**400]}, "too large"),
        ("[" * 100_000, "it is nested too deeply"),
        ('{"type": "activity", "actor": ' + "[" * 400 + "]" * 400 + "}", "actor is not text"),
        (LIKE | {"colour": "red"}, "unknown field colour"),
        (ITEM | {"topics": "tea"}, "not a list of texts"),
        (ITEM | {"embedding": [0.0] * 65}, "1 to 64 numbers"),
        (ITEM | {"deleted": "yes"}, "not true or false"),
    ],
)
def test_a_bad_line_is_counted_and_its_neighbours_go_on(
    tmp_path: Path, line: dict[str, Any] | str, reason: str
) -> None:
    path, tally = lines(tmp_path / "x", ITEM, line, LIKE), Tally()
    assert len(list(jsonl.events(path, tally))) == 2
    assert tally.bad == 1
    assert tally.shown[0].startswith(f"{path} line 2: ")
    assert reason in tally.shown[0]


@pytest.mark.parametrize("form", ["avro", "json"])
def test_the_largest_numbers_that_are_read_can_be_written(tmp_path: Path, form: Any) -> None:
    int32, int64 = (1 << 31) - 1, (1 << 63) - 1
    like = LIKE | {"position": int32, "dwell_ms": int32, "event_time": int64, "undone_event_time": int64}
    for event in jsonl.events(lines(tmp_path / "x", ITEM | {"created_at": int64}, like)):
        assert encoder(form)(event)


def test_seconds_beyond_all_times_are_bad_lines(tmp_path: Path) -> None:
    tally, follows = Tally(), tmp_path / "f.tsv"
    follows.write_text(f"{10**17}\tbob\tann\n")
    assert len(list(uboot.events(lines(tmp_path / "x", POST, REVIEW | {"t": 10**17}), tally, follows))) == 1
    assert tally.bad == 2
    movie = {"event": "item", "item": "m1", "timestamp": str(10**20), "fields": []}
    assert list(ranklens.events(lines(tmp_path / "y", movie), tally)) == []
    assert tally.bad == 3


def test_strict_stops_at_the_first_bad_line(tmp_path: Path) -> None:
    path = lines(tmp_path / "x", ITEM, "{", LIKE)
    with pytest.raises(OperatorError, match="line 2: not JSON") as caught:
        list(jsonl.events(path, Tally(strict=True)))
    assert caught.value.exit_code == ExitCode.BAD_INPUT


def test_bytes_that_are_not_utf8_are_a_bad_line(tmp_path: Path) -> None:
    path, tally = tmp_path / "x", Tally()
    path.write_bytes(json.dumps(ITEM).encode() + b"\n" + b'{"type": "item", "title": "\xff"}\n')
    assert len(list(jsonl.events(path, tally))) == 1
    assert "not UTF-8" in tally.shown[0]


def test_gzip_is_known_by_its_first_bytes_and_damage_is_told(tmp_path: Path) -> None:
    packed = gzip.compress((json.dumps(ITEM) + "\n").encode() * 50)
    path = tmp_path / "events"
    path.write_bytes(packed)
    assert len(list(jsonl.events(path))) == 50
    path.write_bytes(packed[:-12])
    with pytest.raises(OperatorError, match="fetch the file again") as caught:
        list(jsonl.events(path))
    assert caught.value.exit_code == ExitCode.BAD_INPUT


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="check the path"):
        list(jsonl.events(tmp_path / "nowhere"))


def in_order(found: list[Event]) -> bool:
    """Times never go back, and every item is known before anything is done to it."""
    known: set[str] = set()
    for event in found:
        if isinstance(event, ItemEvent):
            known.add(event.item_id)
        elif event.target is None and event.object not in known:
            return False
    return all(a.time_ms <= b.time_ms for a, b in pairwise(found))


def test_the_whole_social_stream_is_read(data_dir: Path) -> None:
    tally, folder = Tally(), data_dir / "uboot"
    found = list(uboot.events(folder / "social_events.jsonl.gz", tally, folder / "derived_follows.tsv.gz"))
    verbs = Counter(e.verb for e in found if isinstance(e, ActivityEvent))
    items = sum(isinstance(e, ItemEvent) for e in found)
    assert items == 99_908
    assert verbs["follow"] == 10_731
    assert items + sum(verbs.values()) - verbs["follow"] + tally.skipped.total() == 200_307
    assert tally.bad == 0
    assert in_order(found)
    ids = [e.activity_id for e in found if isinstance(e, ActivityEvent)]
    assert len(set(ids)) == len(ids)


def test_all_of_ranklens_is_read(data_dir: Path) -> None:
    tally = Tally()
    found = list(ranklens.events(data_dir / "ranklens" / "events.jsonl.gz", tally))
    verbs = Counter(e.verb for e in found if isinstance(e, ActivityEvent))
    assert verbs == {"impression": 235_200, "click": 46_125}
    assert tally.bad == 0
    assert in_order(found)


@pytest.mark.kafka
def test_a_file_arrives_on_the_topics_as_java_would_send_it(
    public_kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", public_kafka)
    monkeypatch.setenv("FEEDRANK_NAMESPACE", "blue")
    actors = [f"u{n}" for n in range(40)]
    likes = [LIKE | {"actor": actor, "event_time": 2_000 + n} for n, actor in enumerate(actors)]
    path = lines(tmp_path / "x.jsonl", ITEM, "{", *likes)

    assert cli.run(["load", "jsonl", str(path)]) == ExitCode.TOPICS_WRONG
    assert "topics create" in capsys.readouterr().err
    assert cli.run(["topics", "create", "--partitions", "3"]) == 0
    assert cli.run(["load", "jsonl", str(path)]) == ExitCode.TOPICS_WRONG
    assert "--keep-all" in capsys.readouterr().err, "Kafka would delete records from 1970 at once"
    assert cli.run(["topics", "create", "--keep-all"]) == 0
    assert cli.run(["load", "jsonl", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "sent 1 items and 40 activities" in shown
    assert "passed over 1 bad lines" in shown
    assert cli.run(["load", "jsonl", "--strict", str(path)]) == ExitCode.BAD_INPUT

    encode = encoder("avro")
    expected = {e.activity_id: e for e in jsonl.events(path) if isinstance(e, ActivityEvent)}
    got = consume(public_kafka, ACTIVITIES, 3, 40)
    assert len(got) == 40
    by_value = {encode(e): e for e in expected.values()}
    for key, value, partition, time_ms in got:
        event = by_value.pop(value)
        assert (key, time_ms) == (event.actor.encode(), event.time_ms)
        assert partition == partition_of(key, 3)
    ((key, _, _, time_ms),) = consume(public_kafka, ITEMS, 3, 1)
    assert (key, time_ms) == (b"i1", 1_000)


class _Registry:
    """As much of a schema registry as a producer asks for."""

    def register(self, topic: str, kind: str) -> int:
        return {(ITEMS, "item"): 7, (ACTIVITIES, "activity"): 8}[topic, kind]


def test_values_carry_the_schema_id_of_the_registry(tmp_path: Path) -> None:
    item, like = jsonl.events(lines(tmp_path / "x", ITEM, LIKE))
    with_registry, bundled = encoder("avro", _Registry()), encoder("avro")  # type: ignore[arg-type]
    assert (with_registry(item)[:5], with_registry(like)[:5]) == (b"\0\0\0\0\7", b"\0\0\0\0\x08")
    assert bundled(like)[:5] == b"\0\0\0\0\0"
    assert bundled(like)[5:] == with_registry(like)[5:]
    assert json.loads(encoder("json")(like))["object"] == "i1"


def test_readers_use_verbs_that_the_default_policy_declares() -> None:
    policy = tomllib.loads((ROOT / "models" / "default_policy.toml").read_text())
    used = {*uboot.VERBS.values(), uboot.FOLLOW, ranklens.IMPRESSION, "click"}
    assert used <= set(policy["verbs"])


def consume(bootstrap: str, topic: str, partitions: int, count: int) -> list[tuple[bytes, bytes, int, int]]:
    """(key, value, partition, timestamp) of `count` records."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
    found = []
    while len(found) < count:
        message = consumer.poll(20)
        assert message is not None, f"{len(found)} of {count} records after 20 s"
        assert message.error() is None
        found.append((message.key(), message.value(), message.partition(), message.timestamp()[1]))
    consumer.close()
    return found
