"""Trained models where there is little to rank: nobody's history, no candidates, items nobody has seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from feedrank.cli import run
from models.context import UserBatch
from models.graph import GraphRow
from models.item_index import ItemIndex
from models.learned.cascade import Cascade
from models.ranked_feed import RankedFeed
from models.ranker import Ranker
from models.sample_world import AS_OF_MS, sample_world
from models.score import RateLift, Scorer
from models.user_row import new_rows
from streams.policy_file import read_policy
from tests.feedrank.test_train import data_set
from topologies.model_folder import read_model

POLICY = read_policy()
KINDS = ("linear", "trees", "lambdarank", "light + trees")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("learned")
    data = data_set(root / "set.parquet")
    for kind in KINDS[:3]:
        assert run(["train", str(data), str(root / kind), "--kind", kind, "--trees", "20"]) == 0
    return root


def scorer(folders: Path, kind: str) -> Scorer:
    if kind == "light + trees":
        return Cascade(RateLift(POLICY), read_model(folders / "trees", POLICY), 50)
    return read_model(folders / kind, POLICY)


def nobody(index: ItemIndex, users: int = 3) -> UserBatch:
    """Users without a row, a follow or anything seen."""
    ids = [b"new-%d" % n for n in range(users)]
    nothing = [np.empty(0, np.uint64)] * users
    graph: list[GraphRow] = [GraphRow()] * users
    return UserBatch.of(ids, new_rows(users), nothing, graph, index, POLICY.verbs)


def ranked(folders: Path, kind: str, users: UserBatch, index: ItemIndex) -> list[RankedFeed]:
    versions = [f"v{n}" for n in range(len(users))]
    return Ranker(POLICY, index, 7, scorer(folders, kind)).rank(users, "for_you", versions, AS_OF_MS)


@pytest.mark.parametrize("kind", KINDS)
def test_somebody_new_gets_a_feed(folders: Path, kind: str) -> None:
    world = sample_world(POLICY, 2, 1_500, 100, 16, 20)
    for feed in ranked(folders, kind, nobody(world.index), world.index):
        assert len(feed) == POLICY.feed.length or len(feed) > 20
        assert np.isfinite(feed.scores).all()
        assert all(feed.why)


@pytest.mark.parametrize("kind", KINDS)
def test_without_items_feeds_are_empty(folders: Path, kind: str) -> None:
    index = ItemIndex(items_max=1_000)
    index.refresh(1, AS_OF_MS)
    feeds = ranked(folders, kind, nobody(index), index)
    assert [len(feed) for feed in feeds] == [0, 0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_company_changes_nobodys_feed(folders: Path, kind: str) -> None:
    world = sample_world(POLICY, 2, 1_500, 100, 16, 20)
    together = ranked(folders, kind, world.users.part(0, 8), world.index)
    alone = Ranker(POLICY, world.index, 7, scorer(folders, kind)).rank(
        world.users.part(5, 6), "for_you", ["v5"], AS_OF_MS
    )[0]
    assert alone.items.tolist() == together[5].items.tolist()
    assert alone.scores.tolist() == together[5].scores.tolist()
