"""Why a feed is as it is: the same feed again, contributions that sum up to the prediction, words."""

from __future__ import annotations

from pathlib import Path

import lightgbm
import numpy as np
import pytest

from feedrank.cli import run
from models.features import FEATURE_NAMES
from models.learned.cascade import Cascade
from models.learned.scorers import LN2, Linear, Trees
from models.policy import parse_policy
from models.ranked_feed import RankedFeed
from models.ranker import Ranker
from models.sample_world import SampleWorld, sample_world
from models.score import RateLift, Scorer
from models.tables import GRID
from streams.feed_heads import StoredFeed
from streams.policy_file import read_policy
from tests.both_paths import edited
from tests.feedrank.test_train import data_set
from topologies.model_folder import read_model
from topologies.why import Why, why

POLICY = read_policy()
SEED = int(POLICY.hash, 16)
SURFACE = "for_you"
ENTRIES = 10


@pytest.fixture(scope="module")
def world() -> SampleWorld:
    return sample_world(POLICY, 3, 2_000, 200, 32, 40)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("why")
    data = data_set(root / "set.parquet")
    for kind in ("linear", "trees", "lambdarank"):
        assert run(["train", str(data), str(root / kind), "--kind", kind, "--trees", "30"]) == 0
    return root


def model(folders: Path, name: str) -> Scorer:
    if name == "default":
        return RateLift(POLICY)
    if name == "light + lambdarank":
        heavy = read_model(folders / "lambdarank", POLICY)
        return Cascade(RateLift(POLICY), heavy, 30)
    return read_model(folders / name, POLICY)


def asked(world: SampleWorld, scorer: Scorer, user: int = 4) -> tuple[Why, StoredFeed]:
    """Why the feed that the ranker makes of a user is as it is."""
    users, as_of_ms = world.users.part(user, user + 1), world.as_of_ms
    made = Ranker(POLICY, world.index, SEED, scorer).rank(users, SURFACE, ["v1"], as_of_ms)[0]
    ids = tuple(world.index.ids[slot] for slot in made.items.tolist())
    scores = tuple(made.scores.tolist())
    feed = StoredFeed("u", "v1", as_of_ms, POLICY.version, scorer.name, ids, scores, (None,) * len(ids), ())
    found = why(users, world.index, POLICY, scorer, SURFACE, feed)
    assert found.dropped == made.dropped
    return found, feed


@pytest.mark.parametrize("name", ["default", "linear", "trees", "light + lambdarank"])
def test_the_feed_again_and_every_candidate(world: SampleWorld, folders: Path, name: str) -> None:
    found, feed = asked(world, model(folders, name))
    assert found.same
    shown = [one for one in found.candidates if one.place is not None]
    assert [one.id for one in shown] == list(feed.ids)
    assert [one.place for one in shown] == list(range(1, len(feed.ids) + 1))
    assert [one.ruled for one in shown if not one.explored] == [
        score for score, one in zip(feed.scores, shown, strict=True) if not one.explored
    ]
    assert all(one.sources for one in found.candidates)
    assert not any(one.dropped_by for one in shown)
    changed = [one for one in found.candidates if one.lowered_by and one.score > 0]
    assert changed
    assert all(one.ruled < one.score for one in changed)


def test_a_feed_that_is_another_is_told(world: SampleWorld) -> None:
    scorer = RateLift(POLICY)
    _, feed = asked(world, scorer)
    other = StoredFeed("u", "v1", feed.as_of_ms, "", "", feed.ids[1:], feed.scores[1:], (), ())
    found = why(world.users.part(4, 5), world.index, POLICY, scorer, SURFACE, other)
    assert not found.same


def test_following_is_by_time(world: SampleWorld) -> None:
    _, feed = asked(world, RateLift(POLICY))
    with pytest.raises(ValueError, match="by time"):
        why(world.users.part(4, 5), world.index, POLICY, RateLift(POLICY), "following", feed)


def test_contributions_of_the_default_model_are_its_exponents(world: SampleWorld) -> None:
    found, _ = asked(world, RateLift(POLICY))
    values = {"weak": POLICY.values, "strong": POLICY.values, "negative": POLICY.values}
    assert set(found.candidates[0].adds) == set(values)
    worth = [float(value) / GRID for value in POLICY.values.values()]
    for one in found.candidates[::17]:
        p = [min(1.0, 2 ** sum(part.values())) for part in one.adds.values()]
        assert sum(v * q for v, q in zip(worth, p, strict=True)) == pytest.approx(one.score, abs=2e-3)
        assert one.exact


def test_contributions_of_linear_models_sum_up_to_the_log_odds(world: SampleWorld, folders: Path) -> None:
    scorer = read_model(folders / "linear", POLICY)
    assert isinstance(scorer, Linear)
    features = np.random.default_rng(1).integers(-GRID, GRID, (len(FEATURE_NAMES), 20)).astype(np.float64)
    adds = scorer.contributions(features).sum(axis=1) * LN2
    again = scorer.contributions(features * 2).sum(axis=1) * LN2
    assert again == pytest.approx(2 * adds)
    row = FEATURE_NAMES.index("author_followed")
    first = scorer.contributions(features)[0, row] / (features[row] / GRID)
    assert first == pytest.approx(first[0])
    assert first[0] * LN2 == pytest.approx(1.5, abs=0.3), "clicks were made with 1.5"


def test_contributions_of_trees_sum_up_to_the_margin(folders: Path) -> None:
    scorer = read_model(folders / "trees", POLICY)
    assert isinstance(scorer, Trees)
    features = np.random.default_rng(1).integers(-GRID, GRID, (len(FEATURE_NAMES), 20)).astype(np.float64)
    adds = scorer.contributions(features)[0].sum(axis=0) * LN2
    booster = lightgbm.Booster(model_file=str(folders / "trees" / "weak.txt"))
    margin = booster.predict(features.T, raw_score=True)
    assert adds - margin == pytest.approx((adds - margin)[0]), "the rest is what is usual, the same for all"
    assert np.abs(adds).max() > 0.5


def test_words_are_of_the_model_that_ranks(world: SampleWorld, folders: Path) -> None:
    users = world.users.part(0, 16)
    versions = [f"v{n}" for n in range(16)]

    def sentences(scorer: Scorer) -> list[tuple[str, ...]]:
        feeds = Ranker(POLICY, world.index, SEED, scorer).rank(users, SURFACE, versions, world.as_of_ms)
        return [text for feed in feeds for text in feed.why]

    trees = read_model(folders / "trees", POLICY)
    assert {len(text) for text in sentences(trees)} == {1}, (
        "off, trees name sources only: SHAP values are dear"
    )
    told = parse_policy(
        edited({"[surfaces.for_you]": f"[model]\nwhy_entries = {ENTRIES}\n[surfaces.for_you]"})
    )

    def explained(scorer: Scorer, some: slice = slice(0, 16)) -> list[RankedFeed]:
        ranker = Ranker(told, world.index, SEED, scorer)
        return ranker.rank(users.part(some.start, some.stop), SURFACE, versions[some], world.as_of_ms)

    feeds = explained(trees)
    lift, learned = sentences(RateLift(POLICY)), [text for feed in feeds for text in feed.why]
    said = {word for text in learned for word in text[1:]}
    assert said
    assert said < {word for text in lift for word in text[1:]} | said
    for feed in feeds:
        assert all(len(text) == 1 for text in feed.why[ENTRIES:]), "only as many as the policy says"
    assert explained(trees, slice(3, 4))[0].why == feeds[3].why


def test_linear_weights_choose_the_words(world: SampleWorld) -> None:
    weights = np.zeros((1, len(FEATURE_NAMES)), np.int64)
    weights[0, FEATURE_NAMES.index("age")] = -(1 << 20)
    scorer = Linear("new-first", weights, np.zeros(1, np.int64), np.zeros((1, 513), np.int32), [1.0])
    users = world.users.part(0, 16)
    feeds = Ranker(POLICY, world.index, SEED, scorer).rank(users, SURFACE, ["v"] * 16, world.as_of_ms)
    said = {word for feed in feeds for text in feed.why for word in text[1:]}
    assert said == {"new"}
