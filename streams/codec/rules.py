"""Rules that one activity must keep, over columns (flow step 1). Each gives a reason to a dead letter.

A rule looks at all records at once and returns those that break it; the message is made for these only. The
first rule that a record breaks names its reason, so the order is: is it there, is it well formed, is it true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.verbs import Role, VerbTable
from streams.codec.text import I64, Mask, Text
from streams.dead_letters import Reason
from streams.limits import (
    CLOCK_AHEAD_MS_MAX,
    DWELL_MS_MAX,
    EVENT_TIME_MS_MAX,
    EVENT_TIME_MS_MIN,
    ID_BYTES_MAX,
    POSITION_MAX,
)
from wire.partitioner import partitions_of_packed

ABSENT, UNKNOWN = -1, -2
TARGETS = {"author": 0, "topic": 1, "keyword": 2}
REQUIRED_IDS = ("activity_id", "actor", "object")


@dataclass(frozen=True, slots=True)
class Unchecked:
    """n decoded activities before the rules. Absent numbers: `absent` says where (None: nowhere).

    Codes: ABSENT, UNKNOWN, or the index of the verb (target). `undo`: whose verb is an undo.
    """

    partition: int
    partitions: int
    verbs: VerbTable
    keys: list[bytes | None]
    record_ms: I64
    texts: dict[str, Text]
    verb: NDArray[np.int16]
    undo: Mask
    target: NDArray[np.int16]
    undone_verb: NDArray[np.int16]
    event_ms: I64
    undone_ms: I64
    dwell_ms: I64
    position: I64
    absent: dict[str, Mask | None]

    def __len__(self) -> int:
        return len(self.keys)


class Broken(NamedTuple):
    """Which records (bool[n]) break a rule, and what to say of one of them."""

    reason: Reason
    records: Mask
    explain: Callable[[int], str]


Rule = Callable[[Unchecked], Iterator[Broken]]


def fields_are_there(a: Unchecked) -> Iterator[Broken]:
    """activity_id, actor, verb, object, event_time."""
    absent = {name: a.texts[name].absent for name in (*REQUIRED_IDS, "verb")}
    absent["event_time"] = a.absent["event_time"]
    for name, records in absent.items():
        if records is not None:
            yield Broken(Reason.MISSING_FIELD, records, partial(_say, f"{name} is missing"))


def ids_are_ids(a: Unchecked) -> Iterator[Broken]:
    """1 to 128 bytes, no control characters; no actor begins with '}', which would end a Redis hash tag."""
    for name in (*REQUIRED_IDS, "slate_id"):
        if not a.texts[name].nowhere:
            yield from _id_is_id(name, a.texts[name])
    actors = a.texts["actor"]
    if b"}" in actors.data:
        first = np.array([value is not None and value[:1] == b"}" for value in actors.values], np.bool_)
        yield Broken(Reason.BAD_ID, first, partial(_say, "actor begins with '}'; choose another id"))


def _id_is_id(name: str, text: Text) -> Iterator[Broken]:
    if text.absent is not None or not text.lengths.all():
        empty = text.lengths == 0
        if text.absent is not None:
            empty &= ~text.absent
        say = f"{name} is empty; leave it out or give it a value"
        yield Broken(Reason.EMPTY_ID, empty, partial(_say, say))
    yield Broken(
        Reason.LONG_ID,
        text.lengths > ID_BYTES_MAX,
        lambda i: f"{name} has {text.lengths[i]} bytes, at most {ID_BYTES_MAX}; shorten or hash it",
    )
    controls = text.controls()
    if controls is not None:
        yield Broken(
            Reason.BAD_ID, controls, partial(_say, f"{name} contains a control character; remove it")
        )


def keys_are_actors(a: Unchecked) -> Iterator[Broken]:
    """Key = actor, in the partition that murmur2 gives it: all of a user's records are in one partition."""
    actors = a.texts["actor"]
    if a.keys != actors.values:
        null = np.array([key is None for key in a.keys], np.bool_)
        yield Broken(Reason.NULL_KEY, null, partial(_say, "the record has no key; its key is the actor"))
        differs = [key != actor for key, actor in zip(a.keys, actors.values, strict=True)]
        yield Broken(
            Reason.KEY_MISMATCH,
            np.array(differs, np.bool_),
            lambda i: f"the key {_shown(a.keys[i])} is not the actor {_shown(actors.values[i])}; make it so",
        )
    belongs = partitions_of_packed(actors.data, actors.offsets[:-1], actors.lengths, a.partitions)
    yield Broken(
        Reason.MISROUTED,
        belongs != a.partition,
        lambda i: (
            f"the key belongs to partition {belongs[i]} of {a.partitions}, not {a.partition}; "
            "partition by murmur2 (librdkafka: partitioner=murmur2_random)"
        ),
    )


def verbs_are_known(a: Unchecked) -> Iterator[Broken]:
    """Declared by the policy."""
    yield Broken(
        Reason.UNKNOWN_VERB,
        a.verb == UNKNOWN,
        lambda i: (
            f"the policy's table [verbs] has no {_shown(a.texts['verb'].values[i])}; "
            f"it has {', '.join(a.verbs.code)}; add it there or write one of these"
        ),
    )


def targets_are_known(a: Unchecked) -> Iterator[Broken]:
    """author (or absent), topic, keyword."""
    if a.texts["target"].nowhere:
        return
    yield Broken(
        Reason.BAD_TARGET,
        a.target == UNKNOWN,
        lambda i: f"target is {_shown(a.texts['target'].values[i])}; write author, topic or keyword",
    )


def numbers_are_possible(a: Unchecked) -> Iterator[Broken]:
    """dwell_ms 0 to one day, position 0 to 32,767."""
    yield from _within("dwell_ms", Reason.BAD_DWELL, a.dwell_ms, a.absent["dwell_ms"], DWELL_MS_MAX)
    yield from _within("position", Reason.BAD_POSITION, a.position, a.absent["position"], POSITION_MAX)


def _within(name: str, reason: Reason, values: I64, absent: Mask | None, most: int) -> Iterator[Broken]:
    """Absent numbers are 0, which is within."""
    if absent is None or not absent.all():
        yield Broken(
            reason,
            (values < 0) | (values > most),
            lambda i: f"{name} is {values[i]}, not between 0 and {most:,}; correct it or leave it out",
        )


def undos_say_what(a: Unchecked) -> Iterator[Broken]:
    """An undo names the verb and the event_time of what it withdraws, which is not an undo itself."""
    undo = a.undo
    if not undo.any():
        return
    untimed = a.absent["undone_event_time"]
    if untimed is not None:
        yield Broken(
            Reason.UNDO_INCOMPLETE, undo & untimed, partial(_say, "an undo needs undone_event_time; add it")
        )
    verb = a.undone_verb
    yield Broken(
        Reason.UNDO_INCOMPLETE, undo & (verb == ABSENT), partial(_say, "an undo needs undone_verb; add it")
    )
    yield Broken(
        Reason.UNDO_INCOMPLETE,
        undo & (verb == UNKNOWN),
        lambda i: (
            f"undone_verb is {_shown(a.texts['undone_verb'].values[i])}, which the policy's table [verbs] "
            f"does not have; it has {', '.join(a.verbs.code)}"
        ),
    )
    again = undo & (verb >= 0) & (a.verbs.role[verb] == Role.UNDO)
    how = "an undo cannot be undone; send the activity again with a new activity_id"
    yield Broken(Reason.UNDO_INCOMPLETE, again, partial(_say, how))


def times_are_possible(a: Unchecked) -> Iterator[Broken]:
    """Between 1990 and 2100, and not more than 5 minutes after Kafka's record timestamp, itself before 2100.

    A record without a timestamp (-1) is ahead of it always.
    """
    yield from _time_is_possible("event_time", a.event_ms, a.record_ms, None)
    undo = a.undo
    if undo.any():
        yield from _time_is_possible("undone_event_time", a.undone_ms, a.record_ms, undo)
    yield Broken(
        Reason.ABSURD_TIME,
        a.record_ms > EVENT_TIME_MS_MAX,
        lambda i: (
            f"the record timestamp is {a.record_ms[i]} ({_when(a.record_ms[i])}), after 2100; set the "
            "producer's clock, and send the record again"
        ),
    )


def _time_is_possible(name: str, times: I64, record_ms: I64, there: Mask | None) -> Iterator[Broken]:
    absurd = (times < EVENT_TIME_MS_MIN) | (times > EVENT_TIME_MS_MAX)
    latest = np.minimum(record_ms, EVENT_TIME_MS_MAX) + CLOCK_AHEAD_MS_MAX  # a timestamp may be 2^63 - 1
    ahead = times > latest
    yield Broken(
        Reason.ABSURD_TIME,
        absurd if there is None else absurd & there,
        lambda i: f"{name} is {times[i]} ({_when(times[i])}), not between 1990 and 2100; write milliseconds",
    )
    yield Broken(
        Reason.CLOCK_AHEAD,
        ahead if there is None else ahead & there,
        lambda i: (
            f"{name} {_when(times[i])} is more than {CLOCK_AHEAD_MS_MAX // 60_000} min after the record "
            f"timestamp {_when(record_ms[i])}; set the clock, or the timestamp when loading old data"
        ),
    )


RULES: tuple[Rule, ...] = (
    fields_are_there,
    ids_are_ids,
    keys_are_actors,
    verbs_are_known,
    targets_are_known,
    numbers_are_possible,
    undos_say_what,
    times_are_possible,
)


def _say(message: str, _: int) -> str:
    return message


def _shown(value: bytes | None) -> str:
    if value is None:
        return "null"
    text = value.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


def _when(time_ms: np.int64) -> str:
    try:
        return datetime.fromtimestamp(int(time_ms) / 1000, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return "no date"
