"""Dead letters in Kafka: what a letter carries, listing, showing, and sending back exactly once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from feedrank.cli import run
from streams.codec import BundledSchemas, Decoder, encode_activity, encode_item
from streams.concerns import KafkaSettings
from streams.dead_letter_log import StoredLetter, read
from streams.dead_letters import REASON_HEADER, DeadLetter, Reason, stage
from streams.errors import OperatorError
from streams.letter_edit import Unreadable, decode_value, edit_value, parse_change
from streams.limits import DEAD_LETTER_BYTES_MAX, EVENT_TIME_MS_MAX, MESSAGE_CHARS_MAX
from streams.requeue import Requeue, Requeued, Return
from tests.streams.codec_cases import NOW_MS, PARTITIONS, VERBS, activity, actor_in, as_json, avro
from tests.streams.fakes import kafka_at
from wire.names import ACTIVITIES, ITEMS
from wire.partitioner import partition_of

MakeTopic = Callable[..., str]
ROOT = Path(__file__).parents[2]


def letter(**changes: Any) -> DeadLetter:
    fields: dict[str, Any] = {
        "topic": "feedrank.activities",
        "partition": 3,
        "offset": 77,
        "timestamp_ms": NOW_MS,
        "key": b"ann",
        "value": b"\xff\x00",
        "reason": Reason.BAD_MAGIC,
        "message": "what, where, what to do",
    }
    return DeadLetter(**{**fields, **changes})


def test_a_letter_carries_connects_headers_the_key_and_the_bytes() -> None:
    message = letter().to_message("feedrank.live")
    assert (message.topic, message.partition) == ("feedrank.dead-letters", None)
    assert (message.key, message.value) == (b"ann", b"\xff\x00")
    headers = dict(message.headers)
    assert headers == {
        "__connect.errors.topic": b"feedrank.activities",
        "__connect.errors.partition": b"3",
        "__connect.errors.offset": b"77",
        "__connect.errors.connector.name": b"feedrank.live",
        "__connect.errors.task.id": b"3",
        "__connect.errors.stage": b"VALUE_CONVERTER",
        "__connect.errors.class.name": b"feedrank.streams.codec",
        "__connect.errors.exception.class.name": b"bad_magic",
        "__connect.errors.exception.message": b"what, where, what to do",
        "feedrank.timestamp": str(NOW_MS).encode(),
    }


def test_a_letter_is_never_too_large_to_be_sent() -> None:
    huge = letter(value=b"x" * (DEAD_LETTER_BYTES_MAX + 5), message="m" * 10_000)
    message = huge.to_message("feedrank.live")
    headers = dict(message.headers)
    assert message.value == b"x" * DEAD_LETTER_BYTES_MAX
    assert headers["feedrank.cut-from-bytes"] == str(DEAD_LETTER_BYTES_MAX + 5).encode()
    assert len(headers["__connect.errors.exception.message"]) == MESSAGE_CHARS_MAX


def test_the_stage_says_what_refused_it() -> None:
    assert stage(Reason.MISROUTED) == "KEY_CONVERTER"
    assert stage(Reason.TRUNCATED) == "VALUE_CONVERTER"
    assert stage(Reason.UNKNOWN_VERB) == "TRANSFORMATION"


def test_the_page_explains_every_reason() -> None:
    page = (ROOT / "docs/wire.md").read_text("utf-8")
    missing = [reason for reason in Reason if f"| `{reason.value}` |" not in page]
    assert not missing


@pytest.mark.parametrize("encode", [avro, as_json])
def test_a_field_is_corrected_in_the_encoding_it_was_written_with(encode: Callable[[Any], bytes]) -> None:
    schemas = BundledSchemas()
    bad = encode(activity(verb="luve", position=3))
    assert edit_value(bad, "activity", schemas, {"verb": "like", "position": None}) == encode(
        activity(verb="like", position=None) if encode is avro else activity(verb="like")
    )
    assert decode_value(bad, "activity", schemas)["verb"] == "luve"


@pytest.mark.parametrize(
    "value", [None, b"", b"\0", b"\0\0\0\0\0\xff\xff", b"[1]", b"\0\0\0\0\7abc", b"\xff"]
)
def test_what_cannot_be_decoded_cannot_be_edited(value: bytes | None) -> None:
    with pytest.raises(Unreadable):
        edit_value(value, "activity", BundledSchemas(), {"verb": "like"})


def test_changes_are_parsed_by_the_fields_type() -> None:
    assert parse_change("verb=5", "activity", 0) == ("verb", "5")
    assert parse_change("dwell_ms=5", "activity", 0) == ("dwell_ms", 5)
    assert parse_change("slate_id=null", "activity", 0) == ("slate_id", None)
    assert parse_change("event_time=now", "activity", 9) == ("event_time", 9)
    assert parse_change('topics=["a"]', "item", 0) == ("topics", ["a"])
    for wrong in (
        *("verb", "nope=1", "dwell_ms=x", "dwell_ms=now", "dwell_ms=²", "dwell_ms=--1"),
        *(f"event_time={10**26}", f"event_time={1 << 63}"),
    ):
        with pytest.raises(ValueError, match=wrong.partition("=")[0]):
            parse_change(wrong, "activity", 0)


def test_json_that_nests_too_deeply_is_no_value() -> None:
    with pytest.raises(ValueError, match="write the value as JSON"):
        parse_change("topics=" + "[" * 100_000, "item", 0)


@pytest.mark.parametrize("encode", [avro, as_json])
def test_a_field_of_the_other_kind_is_not_passed_over(encode: Callable[[Any], bytes]) -> None:
    with pytest.raises(Unreadable, match="this activity has no field created_at"):
        edit_value(encode(activity()), "activity", BundledSchemas(), {"created_at": 1})


@pytest.mark.parametrize("encode", [avro, as_json])
def test_a_change_that_cannot_be_written_is_no_defect(encode: Callable[[Any], bytes]) -> None:
    with pytest.raises(Unreadable, match="the changed record"):
        edit_value(encode(activity()), "activity", BundledSchemas(), {"event_time": 10**30})


class World:
    """A topic of activities and one of dead letters, with three letters in it."""

    def __init__(self, bootstrap: str, activities: str, letters: str) -> None:
        self.kafka = KafkaSettings(KAFKA_BOOTSTRAP_SERVERS=bootstrap)
        self.bootstrap, self.activities, self.letters = bootstrap, activities, letters
        actor = actor_in(1)
        here = actor.encode()
        self.values = [
            avro(activity(1, activity_id="a0", verb="luve")),
            avro(activity(1, activity_id="a1")),
            b"\0\0\0\0\0\x40ab",
        ]
        elsewhere = actor_in(2).encode()
        self.decode([here, here, here], self.values[:1], 1, 0)
        self.decode([elsewhere], [avro(activity(2, activity_id="a1"))], 1, 10)
        self.decode([here], [b"\0\0\0\0\0\x40ab"], 1, 20)

    def decode(self, keys: list[bytes], values: list[bytes], partition: int, first: int) -> None:
        """Through the decoder, as a worker would; what it sets aside is produced."""
        count = len(values)
        decoder = Decoder("avro", VERBS, PARTITIONS)
        _, dead = decoder.decode(
            self.activities, partition, range(first, first + count), [NOW_MS] * count, keys[:count], values
        )
        producer = Producer({"bootstrap.servers": self.bootstrap})
        for one in dead:
            message = one.to_message("feedrank.test")
            producer.produce(self.letters, message.value, message.key, headers=list(message.headers))
        producer.flush(10)

    def read(self) -> list[StoredLetter]:
        return read(self.kafka, None, self.letters)

    def requeue(
        self, chosen: Callable[[StoredLetter], bool] = lambda _: True, **changes: Any
    ) -> list[Requeued]:
        return Requeue(self.kafka, BundledSchemas(), changes, dead_letters=self.letters).run(chosen)

    def sent_back(self) -> list[tuple[int, bytes, bytes, int, dict[str, bytes]]]:
        """partition, key, value, timestamp, headers of everything committed to the activities topic."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "x",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
            }
        )
        consumer.assign([TopicPartition(self.activities, p, 0) for p in range(PARTITIONS)])
        found, ends = [], 0
        while ends < PARTITIONS:
            for record in consumer.consume(100, 0.1):
                if record.error():
                    ends += 1
                    continue
                found.append(
                    (
                        record.partition(),
                        record.key(),
                        record.value(),
                        record.timestamp()[1],
                        dict(record.headers() or []),
                    )
                )
        consumer.close()
        return found


@pytest.fixture
def world(kafka: str, make_topic: MakeTopic) -> World:
    return World(kafka, make_topic("activities", PARTITIONS), make_topic("dead", 2))


def test_letters_are_listed_with_origin_reason_and_bytes(world: World) -> None:
    found = {one.reason: one for one in world.read()}
    assert set(found) == {"unknown_verb", "misrouted", "truncated"}
    verb = found["unknown_verb"]
    assert (verb.topic, verb.partition, verb.offset) == (world.activities, 1, 0)
    assert (verb.timestamp_ms, verb.group, verb.requeued) == (NOW_MS, "feedrank.test", False)
    assert (verb.key, verb.value) == (actor_in(1).encode(), world.values[0])
    assert read(world.kafka, int(time.time() * 1000) + 60_000, world.letters) == []


def test_a_misrouted_letter_goes_back_to_its_partition_once(world: World) -> None:
    def misrouted(one: StoredLetter) -> bool:
        return one.reason == "misrouted"

    first, second = world.requeue(misrouted), world.requeue(misrouted)
    assert [(one.topic, one.partition, one.problem) for one in first] == [(world.activities, 2, "")]
    assert second == []
    [(partition, key, value, timestamp, headers)] = world.sent_back()
    assert (partition, key, timestamp) == (2, actor_in(2).encode(), NOW_MS)
    assert value == avro(activity(2, activity_id="a1"))
    assert headers == {"feedrank.requeued-from": first[0].letter.name.encode()}
    assert [one.requeued for one in world.read() if misrouted(one)] == [True]


def test_a_corrected_letter_is_sent_back_and_is_good(world: World) -> None:
    world.requeue(lambda one: one.reason == "unknown_verb", verb="like")
    [(partition, key, value, timestamp, _)] = world.sent_back()
    columns, dead = Decoder("avro", VERBS, PARTITIONS).decode(
        world.activities, partition, [0], [timestamp], [key], [value]
    )
    assert not dead
    assert columns.verb.tolist() == [VERBS.code["like"]]


def test_a_corrected_actor_changes_the_key(world: World) -> None:
    [done] = world.requeue(lambda one: one.reason == "unknown_verb", verb="like", actor="someone")
    [(partition, key, *_)] = world.sent_back()
    assert (partition, key) == (partition_of(b"someone", PARTITIONS), b"someone")
    assert done.partition == partition


def test_what_cannot_be_corrected_stays(world: World) -> None:
    [done] = world.requeue(lambda one: one.reason == "truncated", verb="like")
    assert "cannot be decoded" in done.problem
    assert world.sent_back() == []
    assert not any(one.requeued for one in world.read())


def test_a_requeue_that_is_taken_over_sends_nothing_twice(world: World) -> None:
    """The first has everything sent but not committed when the second begins."""
    first = Requeue(world.kafka, BundledSchemas(), {}, dead_letters=world.letters)
    stuck = first._producer()
    stuck.init_transactions(10)
    stuck.begin_transaction()
    target = next(one for one in world.read() if one.reason == "misrouted")
    stuck.produce(world.activities, target.value, target.key, 2)
    stuck.flush(10)
    done = world.requeue(lambda one: one.reason == "misrouted")
    assert [one.problem for one in done] == [""]
    with pytest.raises(KafkaException):
        stuck.commit_transaction(10)
    assert len(world.sent_back()) == 1


def test_the_command_lists_shows_and_requeues(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", world.bootstrap)
    where = ["--dead-letters", world.letters]

    def feedrank(*arguments: str) -> tuple[int, str]:
        code = run(["dlq", *arguments, *where])
        return code, capsys.readouterr().out

    code, out = feedrank("list", "--json", "--reason", "unknown_verb")
    [described] = [json.loads(line) for line in out.splitlines()]
    assert (code, described["reason"], described["offset"]) == (0, "unknown_verb", 0)
    name = described["letter"]
    code, out = feedrank("list")
    assert code == 0
    assert name in out
    assert "misrouted" in out
    assert "[verbs]" in out
    code, out = feedrank("show", name, "--json")
    shown = json.loads(out)
    assert shown["decoded"]["verb"] == "luve"
    assert shown["value_hex"] == world.values[0].hex()
    assert "luve" in feedrank("show", name)[1]
    code, out = feedrank("requeue", name, "--set", "verb=like", "--dry-run")
    assert "would go" in out
    assert world.sent_back() == []
    code, out = feedrank("requeue", name, "--set", "verb=like")
    assert (code, len(world.sent_back())) == (0, 1)
    assert "no such letter" in feedrank("requeue", name)[1]
    assert feedrank("requeue")[0] == 2
    assert feedrank("show", "9:9")[0] == 12
    assert feedrank("requeue", name, "--set", "colour=red")[0] == 2
    assert feedrank("requeue", "--reason", "truncated", "--set", "verb=like")[0] == 12


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "²:1"], "'²:1' is not PARTITION:OFFSET"),
        (["show", "1:" + "9" * 5_000], "is not PARTITION:OFFSET"),
        (["requeue", "1:2:3"], "'1:2:3' is not PARTITION:OFFSET"),
        (["list", "--reason", "nonsense"], "--reason 'nonsense' is none; there are null_value, "),
        (["requeue", "--reason", "nonsense"], "--reason 'nonsense' is none; there are null_value, "),
        (["list", "--since", "9" * 5_000 + "d"], "is neither 30m"),
        (["requeue", "1:1", "--set", "event_time=" + "9" * 26], "event_time is a whole number of at most 64"),
    ],
)
def test_wrong_arguments_are_told_before_kafka_is_asked(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setattr("streams.past_records.ANSWER_S", 1.0)
    assert run(["dlq", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_names_without_a_letter_are_told_and_the_others_go(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", world.bootstrap)
    name = next(one.name for one in world.read() if one.reason == "misrouted")

    def requeue(*arguments: str) -> tuple[int, list[str]]:
        code = run(["dlq", "requeue", "--dead-letters", world.letters, *arguments])
        return code, capsys.readouterr().out.splitlines()

    code, out = requeue(name, "77:1", "1:99999999")
    assert (code, len(world.sent_back())) == (12, 1)
    assert out == [
        f"{name}  went to {world.activities} 2",
        "77:1  not requeued: there is no such letter",
        "1:99999999  not requeued: there is no such letter",
    ]
    assert requeue(name) == (0, ["no such letter that was not requeued already"])
    code, out = requeue(name, "77:1", "--json")
    assert (code, [json.loads(line)["letter"] for line in out]) == (12, ["77:1"])
    code, out = requeue(name, "--reason", "truncated")
    assert (code, out) == (
        12,
        [f"{name}  not requeued: there is no such letter with that --reason or --since"],
    )


def test_a_time_on_an_item_of_another_field_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", world.bootstrap)
    item = {"item_id": "i1", "author": "ann", "created_at": 5, "topics": [], "deleted": False}
    headers = [("__connect.errors.topic", ITEMS.encode()), (REASON_HEADER, b"absurd_time")]
    producer = Producer({"bootstrap.servers": world.bootstrap})
    producer.produce(world.letters, encode_item(item), b"i1", headers=headers)
    producer.flush(10)
    name = next(one.name for one in world.read() if one.reason == "absurd_time")
    monkeypatch.setattr("streams.requeue._partitions", lambda *_: 4)
    where = ["--dead-letters", world.letters, "--dry-run"]
    assert run(["dlq", "requeue", name, "--set", "event_time=now", *where]) == 12
    assert "not requeued: this item has no field event_time; leave out" in capsys.readouterr().out
    assert run(["dlq", "requeue", name, "--set", "created_at=now", *where]) == 0


def test_any_time_is_listed_and_any_time_may_be_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", world.bootstrap)
    producer = Producer({"bootstrap.servers": world.bootstrap})
    odd = [("__connect.errors.partition", "²".encode()), ("__connect.errors.offset", b"--5")]
    producer.produce(world.letters, b"far", b"k", timestamp=(1 << 62), headers=odd)
    producer.produce(world.letters, b"a receipt of nobody", b"k", headers=[("feedrank.receipt", b"x")])
    producer.flush(10)
    listed = []
    for since in ([], ["--since", "0001-01-01T00:00:00"], ["--since", "99999999999999d"]):
        assert run(["dlq", "list", "--dead-letters", world.letters, *since]) == 0
        listed.append(capsys.readouterr().out)
    assert f"{1 << 62} ms" in listed[0]
    assert listed == listed[:1] * 3
    assert run(["dlq", "list", "--dead-letters", world.letters, "--since", "9999-12-31"]) == 0


def test_a_missing_topic_and_an_absent_broker_are_one_message_each(
    kafka: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = KafkaSettings(KAFKA_BOOTSTRAP_SERVERS=kafka)
    with pytest.raises(OperatorError, match="feedrank topics create"):
        read(settings, None, f"{namespace}.nothing")
    monkeypatch.setattr("streams.past_records.ANSWER_S", 1.0)
    nobody = KafkaSettings(KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    with pytest.raises(OperatorError, match="KAFKA_BOOTSTRAP_SERVERS"):
        read(nobody, None, "x")


def test_the_encoder_of_the_api_writes_what_is_requeued() -> None:
    assert decode_value(encode_activity(activity()), "activity", BundledSchemas())["verb"] == "click"


def test_a_letter_from_the_future_needs_a_new_timestamp() -> None:
    at_ms, key = EVENT_TIME_MS_MAX + 1, actor_in(2).encode()
    late = StoredLetter(
        (0, 1), 0, ACTIVITIES, 2, 7, at_ms, "absurd_time", "", "feedrank.test", key, avro(activity(2))
    )
    kept, renewed = (
        Requeue(kafka_at("nowhere:1"), BundledSchemas(), {}, now)._plan(late, PARTITIONS)
        for now in (False, True)
    )
    assert isinstance(kept, Requeued)
    assert "in the future; give it a new one with --now" in kept.problem
    assert isinstance(renewed, Return)
