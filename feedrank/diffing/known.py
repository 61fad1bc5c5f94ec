"""Features of the most changed users' items on one side: the shadow's disk, the served log, or rebuilt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from feedrank.dataset.topics import add_coordinates, log_of
from models.candidates import draw_seeds
from models.fingerprint import fp64s
from models.policy import Policy, parse_policy
from streams.data_dir import claimed
from streams.errors import OperatorError
from streams.feed_heads import StoredFeed
from streams.past_records import PastRecords
from streams.policy_file import read_policy
from streams.settings import Settings
from streams.topics_admin import TopicsAdmin
from topologies.explaining import FOR_YOU, Known, of_rows, of_served, unknown
from topologies.history import History
from topologies.past import Past, Served, Slate
from topologies.past import of_served as slate_of_record
from topologies.rebuild import rebuild
from topologies.replay.shadow import Shadow
from topologies.shadow_feeds import on_disk
from topologies.shadow_users import ShadowUsers
from wire.names import ACTIVITIES, Namespace
from wire.partitioner import partition_of
from wire.version import Version

EARLIER_MS = 600_000
"""A record of the served log may be written so much before its as_of: events may lie ahead of the clock."""


@dataclass(frozen=True, slots=True)
class Origin:
    """One side: its namespace, the policy file that was named for it, and whether to rebuild from topics."""

    settings: Settings
    names: Namespace
    surface: str
    policy: Path | None
    rebuild: bool


def known_of(origin: Origin, feeds: Sequence[StoredFeed]) -> dict[str, Known]:
    """What is known of each user's feed; every user is there. Asks the cheapest exact place first."""
    if origin.surface != FOR_YOU:
        why = unknown(f"{origin.surface} is not ranked by features")
        return {feed.user: why for feed in feeds}
    found = _of_shadow(origin, feeds)
    left = [feed for feed in feeds if feed.user not in found]
    if not left:
        return found
    try:
        partial = _of_log(origin, left)
        left = [feed for feed in left if not _covers(partial.get(feed.user), feed)]
        rebuilt = _rebuilt(origin, left) if left else {}
    except OperatorError as error:
        why = unknown(str(error))
        return {feed.user: why for feed in left} | found
    for feed in left:
        again, logged = rebuilt[feed.user], partial.get(feed.user)
        found[feed.user] = logged if again.why_not and logged else again
    return partial | found


def _covers(known: Known | None, feed: StoredFeed) -> bool:
    return known is not None and not known.why_not and len(known.features) == len(feed.ids)


# -- a replay's own directory ------------------------------------------------------------------------------


def _of_shadow(origin: Origin, feeds: Sequence[StoredFeed]) -> dict[str, Known]:
    """Of feeds that the replay in this data directory settled; others have come since, of a worker."""
    shadow = Shadow.of(origin.settings.worker.data_dir, origin.names)
    if not on_disk(shadow):
        return {}
    as_of_ms = shadow.definition().as_of_ms
    settled = [feed for feed in feeds if feed.as_of_ms == as_of_ms]
    if not settled:
        return {}
    with claimed(shadow.directory):
        users = ShadowUsers(shadow, origin.settings)
        found = {}
        for feed in settled:
            batch = users.batch(feed.user.encode())
            if batch is not None and feed.policy == users.policy.version:
                told = f"the replay's rows in {shadow.directory.name}"
                found[feed.user] = of_rows(batch, users.index, users.policy, origin.surface, feed, told)
        return found


# -- the served log ----------------------------------------------------------------------------------------


def _of_log(origin: Origin, feeds: Sequence[StoredFeed]) -> dict[str, Known]:
    """Of feeds whose record carries features: of all entries for a share of users, else of explored ones."""
    wanted = {(feed.user.encode(), feed.version): feed for feed in feeds}
    policy, found = policy_of(origin), dict[str, Known]()
    with PastRecords(origin.settings.kafka, origin.names.served) as log:
        for record in log.records(since_ms(feeds)):
            if _key(record.key()) not in {user for user, _ in wanted}:
                continue
            try:
                served = Served.parse(_key(record.value()), record.partition() or 0)
            except ValueError:
                continue
            feed = wanted.get((served.user, served.version))
            if feed is not None and served.surface == origin.surface and len(served.featured):
                same = policy if policy.version == feed.policy else None
                found[feed.user] = of_served(served, same)
    return found


def since_ms(feeds: Sequence[StoredFeed]) -> int:
    """From when on the served log has to be read for these feeds."""
    return max(min(feed.as_of_ms for feed in feeds) - EARLIER_MS, 0)


def _key(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""


# -- rebuilt from the topics -------------------------------------------------------------------------------


def policy_of(origin: Origin) -> Policy:
    """The policy named for this side, else the one its replay was defined with, else the worker's."""
    shadow = Shadow.of(origin.settings.worker.data_dir, origin.names)
    if origin.policy is None and shadow.exists:
        return parse_policy(shadow.definition().policy, str(shadow.directory))
    return read_policy(origin.policy or origin.settings.worker.policy)


def _rebuilt(origin: Origin, feeds: Sequence[StoredFeed]) -> dict[str, Known]:
    if not origin.rebuild:
        return {feed.user: unknown("the served log has none and --no-rebuild was given") for feed in feeds}
    policy = policy_of(origin)
    other = [feed for feed in feeds if feed.policy != policy.version]
    found = {
        feed.user: unknown(f"policy {feed.policy} is not at hand; name its file (--policy-a, --policy-b)")
        for feed in other
    }
    same = [feed for feed in feeds if feed.policy == policy.version]
    return found | (_from_topics(origin, policy, same) if same else {})


def _from_topics(origin: Origin, policy: Policy, feeds: Sequence[StoredFeed]) -> dict[str, Known]:
    settings = origin.settings
    partitions = TopicsAdmin(settings.kafka, settings.names).partitions(ACTIVITIES)
    past = log_of(settings, policy.verbs, partitions)
    add_coordinates(past, settings, {feed.user.encode() for feed in feeds}, since_ms(feeds))
    return rebuilt_users(past, policy, settings.ranking.tick_s * 1_000, origin.surface, feeds)


def rebuilt_users(
    past: Past, policy: Policy, tick_ms: int, surface: str, feeds: Sequence[StoredFeed]
) -> dict[str, Known]:
    """Of each feed, from all that happened up to its coordinates; every user is there."""
    by_user = {feed.user.encode(): feed for feed in feeds}
    history, counts = History(policy.verbs, tick_ms), Counter[str]()
    slates = [slate_of(feed, policy, past) for feed in feeds]
    found = {}
    for rebuilt in rebuild(past, history, policy, slates, counts):
        feed = by_user[rebuilt.slate.user]
        batch = history.batch([rebuilt.slate.user])
        told = "rows rebuilt from the topics"
        found[feed.user] = of_rows(batch, history.index, policy, surface, feed, told)
    why = unknown("; ".join(f"{count} {name}" for name, count in counts.items()) or "it could not be rebuilt")
    return {feed.user: found.get(feed.user, why) for feed in feeds}


def slate_of(feed: StoredFeed, policy: Policy, past: Past) -> Slate:
    """The coordinates that a stored feed was made at: of its record, else as far as its version tells."""
    for served in past.served:
        if (served.user, served.version) == (feed.user.encode(), feed.version):
            return slate_of_record(served)
    version, user = Version.parse(feed.version), feed.user.encode()
    seed = int(draw_seeds(int(policy.hash, 16), fp64s([user]), [feed.version])[0])
    partition = partition_of(user, len(past.partitions))
    return Slate(user, partition, version.position, version.tick, version.as_of_ms, seed)
