"""What must hold in a seed: while it runs, when nothing goes wrong any more, and at its end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import orjson
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from streams.durable import POSITION_KEY
from streams.errors import ExitCode, OperatorError
from streams.store import ShardStore
from tests.integration.test_oracle import stored
from tests.oracle.feeds import SURFACES
from tests.oracle.users import User
from tests.simulation.worker import NAMES, TICK_S
from wire.names import ACTIVITIES, DEAD_LETTERS
from wire.partitioner import partition_of
from wire.version import Version

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

REDIS_AWAY = (RedisError,)
PATIENCE_S = 90.0
POLL_S = 0.5
MAY_END = {ExitCode.BROKER_UNREACHABLE, ExitCode.FENCED}
DEFECTS = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
CHANGELOGS = {ACTIVITIES: NAMES.users_changelog, NAMES.item_deltas: NAMES.item_rows_changelog}
PREFIX = "__connect.errors."


def may_end(one: Simulation, failure: BaseException | None) -> None:
    """A worker may end with what another start mends, as its supervisor would."""
    mends = isinstance(failure, OperatorError) and failure.exit_code in MAY_END
    one.demand(mends or isinstance(failure, KafkaError), f"a worker ended: {failure!r}")


def complaints(one: Simulation) -> Iterator[str]:
    """Defects that only a log would have told of."""
    for context in one.loop.complaints:
        yield f"the loop complained: {context.get('message')} {context.get('exception')!r}"
    for task in one.loop.tasks:
        if not task.done() or task.cancelled():
            continue
        error, name = task.exception(), getattr(task.get_coro(), "__qualname__", "?")
        if isinstance(error, DEFECTS) and not isinstance(error, KafkaError) and "_play" not in name:
            yield f"{name} failed: {error!r}"


# -- when nothing goes wrong any more ------------------------------------------------------------------------


async def _until(what: str, left: Callable[[], Any]) -> None:
    """Wait until nothing is left."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + PATIENCE_S
    while missing := left():
        if loop.time() > deadline_s:
            raise TimeoutError(f"{what}: {missing} after {PATIENCE_S:.0f} s without faults")
        await asyncio.sleep(POLL_S)


def active(one: Simulation) -> Iterator[User]:
    """Whoever has a feed."""
    tick_ms = TICK_S * 1_000
    return one.script.world.settled(one.script.end_ms, tick_ms).active()


async def nobody_is_forgotten(one: Simulation) -> None:
    """Every active user has a feed that was made after the last thing that made the user due."""
    users = {user.id: user.signal_ms for user in active(one) if user.signal_ms}

    def without() -> list[tuple[str, int, int]]:
        heads = one.redis.newest
        made = {user: _made_ms(heads.get(NAMES.feed("for_you", user))) for user in users}
        return [(user, made[user], signal) for user, signal in users.items() if made[user] < signal]

    await _until("users without a feed of after their last signal", without)


def _made_ms(version: bytes | None) -> int:
    return -1 if version is None else Version.parse(version.decode()).as_of_ms


def positions(one: Simulation, source: str) -> list[dict[str, Any]]:
    """What each partition's changelog says under the position's key."""
    found = []
    for partition in range(one.plan.partitions):
        rows = _rows(one, CHANGELOGS[source], partition)
        found.append(orjson.loads(rows.get(POSITION_KEY) or b'{"position": 0}'))
    return found


async def all_is_committed(one: Simulation) -> None:
    """Positions of both jobs come to the ends of their topics."""

    def behind() -> list[tuple[str, int]]:
        found = []
        for source in CHANGELOGS:
            for partition, record in enumerate(positions(one, source)):
                log = one.broker.logs[TopicPartition(source, partition)]
                last = max((record[0] + 1 for record in log.read()), default=0)
                if record["position"] < last:
                    found.append((source, partition))
        return found

    await _until("records that are not committed", behind)


# -- at the end ----------------------------------------------------------------------------------------------


def compare(one: Simulation) -> None:
    """All that came of it with what the oracle says."""
    _compare_rows(one)
    _compare_letters(one)
    _compare_ledgers(one)
    _compare_disks(one)
    _compare_feeds(one)


def _rows(one: Simulation, topic: str, partition: int, since: int = 0) -> dict[bytes, bytes | None]:
    records = one.broker.logs[TopicPartition(topic, partition)].read()
    return {key or b"": value for offset, _, key, value, _ in records if offset >= since}


def _compare_rows(one: Simulation) -> None:
    world = one.script.world
    for topic, expected in (
        (NAMES.users_changelog, world.user_rows()),
        (NAMES.item_rows_changelog, world.item_rows()),
    ):
        found: dict[bytes, bytes | None] = {}
        for partition in range(one.plan.partitions):
            found |= _rows(one, topic, partition)
        found.pop(POSITION_KEY, None)
        wrong = [key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key)]
        one.demand(not wrong, f"{topic}: {len(wrong)} rows differ, {sorted(wrong)[:3]}")


def _compare_letters(one: Simulation) -> None:
    found: Counter[tuple[str, int, int]] = Counter()
    values = {}
    for partition in range(one.plan.partitions):
        for _, _, _, value, headers in one.broker.logs[TopicPartition(DEAD_LETTERS, partition)].read():
            said = dict(headers)
            topic, at, offset = (
                said[f"{PREFIX}{name}"].decode() for name in ("topic", "partition", "offset")
            )
            origin = (topic, int(at), int(offset))
            found[origin] += 1
            values[origin] = value
    one.demand(set(found) == set(one.bad), f"dead letters lost or made up: {set(found) ^ set(one.bad)}")
    doubled = [origin for origin, times in found.items() if times > 1]
    one.demand(not doubled, f"dead letters doubled: {doubled}")
    one.demand(values == one.bad, "dead letters with other bytes than the records'")


def _compare_ledgers(one: Simulation) -> None:
    for partition, record in enumerate(positions(one, ACTIVITIES)):
        counted = sum(record.get(name, 0) for name in ("applied", "duplicates", "withdrawn", "dead"))
        records = len(one.broker.logs[TopicPartition(ACTIVITIES, partition)].read())
        one.demand(counted == records, f"the ledger of partition {partition} has {counted} of {records}")


def _compare_disks(one: Simulation) -> None:
    """Whatever any worker has left on disk, with the changelog from where it says, is the truth."""
    for job, topic in (("users", NAMES.users_changelog), ("item-rows", NAMES.item_rows_changelog)):
        for path in sorted(one.disk.path.glob(f"*/{job}-*")):
            partition = int(path.name.rpartition("-")[2])
            store = ShardStore(path)
            kept = {key: value for part in store.scan(b"") for key, value in part if key[:1] != b"\0"}
            since = store.meta.changelog_next
            store.close()
            rebuilt = kept | _rows(one, topic, partition, since)
            truth = _rows(one, topic, partition)
            wrong = [key for key in rebuilt.keys() | truth.keys() if rebuilt.get(key) != truth.get(key)]
            one.demand(not wrong, f"{path.parent.name}/{path.name} from {since}: {sorted(wrong)[:3]} differ")


def _compare_feeds(one: Simulation) -> None:
    """Settled feeds, at the positions that they name."""
    assert one.request is not None
    world, client = one.script.world, one.redis.client
    settled = world.settled(one.request.as_of_ms, TICK_S * 1_000)
    for user in active(one):
        partition = partition_of(user.id.encode(), one.plan.partitions)
        for surface in SURFACES:
            head = {k.decode(): v for k, v in client.hgetall(NAMES.feed(surface, user.id)).items()}
            if "version" not in head:
                one.demand(False, f"{user.id} has no feed {surface}")
                continue
            position = Version.parse(head["version"].decode()).position
            end = one.broker.logs[TopicPartition(ACTIVITIES, partition)].end
            one.demand(one.request.ends[partition] <= position <= end, f"{user.id} settled at {position}")
            world.shards[partition].position = position
            feed = settled.feed(user, surface)
            fields, entries = stored(head)
            wrong = [n for n in fields.keys() | feed.head.keys() if fields.get(n) != feed.head.get(n)]
            wrong += [str(n) for n, (a, b) in enumerate(zip(entries, feed.entries, strict=False)) if a != b]
            one.demand(not wrong, f"settled feed {surface} of {user.id} differs in {wrong[:5]}")
