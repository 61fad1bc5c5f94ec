"""One user's rows and the items as they were when a feed was made: of a replay, or from the topics again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from feedrank.dataset.topics import add_coordinates, log_of
from feedrank.diffing.known import Origin, policy_of, since_ms, slate_of
from models.policy import Policy
from models.score import Scorer
from streams.data_dir import claimed
from streams.errors import ExitCode, OperatorError
from streams.feed_heads import FeedHeads, StoredFeed
from streams.topics_admin import TopicsAdmin
from topologies.history import History
from topologies.model_watch import scorer_of
from topologies.past import Past
from topologies.rebuild import rebuild
from topologies.replay.models import scorer_of_shadow
from topologies.replay.shadow import Shadow
from topologies.shadow_feeds import ShadowFeeds, on_disk
from topologies.shadow_users import ShadowUsers
from topologies.why import Why, why
from wire.names import ACTIVITIES


def stored_feed(origin: Origin, user: str) -> StoredFeed:
    """The user's feed, in Redis or on a replay's disk. Raises OperatorError where there is none."""
    shadow = Shadow.of(origin.settings.worker.data_dir, origin.names)
    disk = on_disk(shadow) and shadow.definition().sink == "files"
    with ShadowFeeds(shadow.directory) if disk else FeedHeads(origin.settings.redis) as feeds:
        try:
            (found,) = feeds.read(origin.names, origin.surface, [user])
        except ValueError as error:
            raise OperatorError(f"the feed cannot be read: {error}", ExitCode.BAD_INPUT) from error
    if found is None:
        raise OperatorError(
            f"{origin.names.name} has no feed of {user!r} on {origin.surface}: nobody with this id acted, or "
            "the feed ran out; check the id, or let the user visit",
            ExitCode.BAD_INPUT,
        )
    return found


def explained(origin: Origin, feed: StoredFeed, models: Path) -> tuple[Why, str]:
    """Why the feed is as it is, and where the rows are from. `models`: what the policy's models are relative
    to. Raises OperatorError where policy, model or rows of the feed are not at hand."""
    policy = policy_of(origin)
    if policy.version != feed.policy:
        raise OperatorError(
            f"the feed was ranked by policy {feed.policy}, at hand is {policy.version}; name its file with "
            "--policy",
            ExitCode.BAD_INPUT,
        )
    shadow = Shadow.of(origin.settings.worker.data_dir, origin.names)
    own = origin.policy is None and shadow.exists
    scorer = scorer_of_shadow(shadow, policy) if own else scorer_of(policy, models)
    if scorer.name != feed.model:
        raise OperatorError(
            f"the feed was ranked by model {feed.model}, at hand is {scorer.name}; put that model's folder "
            "back, or let the user visit and explain the new feed",
            ExitCode.BAD_INPUT,
        )
    if on_disk(shadow) and shadow.definition().as_of_ms == feed.as_of_ms:
        with claimed(shadow.directory):
            users = ShadowUsers(shadow, origin.settings)
            batch = users.batch(feed.user.encode())
            if batch is not None:
                told = f"the replay's rows in {shadow.directory.name}"
                return why(batch, users.index, policy, scorer, origin.surface, feed), told
    settings = origin.settings
    partitions = TopicsAdmin(settings.kafka, settings.names).partitions(ACTIVITIES)
    past = log_of(settings, policy.verbs, partitions)
    add_coordinates(past, settings, {feed.user.encode()}, since_ms([feed]))
    return rebuilt(origin, feed, past, policy, scorer), "rows rebuilt from the topics"


def rebuilt(origin: Origin, feed: StoredFeed, past: Past, policy: Policy, scorer: Scorer) -> Why:
    """From all that happened up to the feed's coordinates. Raises OperatorError where that cannot be."""
    counts: Counter[str] = Counter()
    history = History(policy.verbs, origin.settings.ranking.tick_s * 1_000)
    slate = slate_of(feed, policy, past)
    for one in rebuild(past, history, policy, [slate], counts):
        batch = history.batch([one.slate.user])
        return why(batch, history.index, policy, scorer, origin.surface, feed)
    if counts:
        reason = "the served log does not have, or no longer, what its item statistics contained"
        advice = "let the user visit, and explain the new feed"
    else:
        reason = "the topics no longer hold what it was made of"
        advice = "keep activities and items for as long as feeds are to be explained"
    raise OperatorError(f"{feed.user}'s feed cannot be ranked again: {reason}; {advice}", ExitCode.BAD_INPUT)
