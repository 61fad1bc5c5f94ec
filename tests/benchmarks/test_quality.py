"""The benchmarks of ranking quality: digits of others, no look into the future, and a loop that closes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import openbandit, quality, ranklens, trainedloop, uboot
from benchmarks.uboot_baselines import Judged
from models.columns import ActivityColumns
from models.policy import Policy, parse_policy
from streams.policy_file import read_policy
from topologies.past import Past

LINES = 9_000
RANKINGS = 60


@pytest.fixture
def data(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with real data, for the benchmarks too."""
    monkeypatch.setenv("FEEDRANK_DATA", str(data_dir))
    return data_dir


@pytest.mark.parametrize("campaign", openbandit.CAMPAIGNS)
def test_estimates_have_obps_digits(data: Path, campaign: str) -> None:
    for name, found in openbandit.estimates(campaign).items():
        assert found.value == pytest.approx(openbandit.OBP[campaign, name], abs=1e-12)
        assert found.low < found.value < found.high


def test_the_distribution_is_one(data: Path) -> None:
    for campaign in openbandit.CAMPAIGNS:
        assert openbandit.target(campaign).sum(axis=0) == pytest.approx(1.0)


def shuffled_after(part: ActivityColumns, time_ms: int, seed: int) -> ActivityColumns:
    """What happens later happens to other items."""
    later = np.flatnonzero(part.event_ms >= time_ms)
    objects = part.object_fp.copy()
    objects[later] = np.random.default_rng(seed).permutation(objects[later])
    return replace(part, object_fp=objects)


def test_shuffling_the_future_changes_no_feature(data: Path) -> None:
    policy = read_policy()
    past = ranklens.read(policy, LINES)
    honest = ranklens.queries_of(past, policy, RANKINGS)
    end_ms = int(honest.time_ms.max())
    part = past.partitions[0]
    future = Past([shuffled_after(part, end_ms, 1)], past.items)
    assert (future.partitions[0].object_fp != part.object_fp).sum() > 1_000
    fps, values = _of_shown(future, past, policy)
    expected_fps, expected = _of_shown(past, past, policy)
    assert (fps == expected_fps).all()
    assert (values == expected).all()
    earlier = Past([shuffled_after(part, int(np.median(honest.time_ms)), 1)], past.items)
    assert (_of_shown(earlier, past, policy)[1] != expected).any(), "the past does matter"


def _of_shown(past: Past, asked: Past, policy: Policy) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Features of the rankings of `asked`, from what happened in `past`."""
    from collections import Counter

    from topologies.history import History
    from topologies.past import of_shown
    from topologies.rebuild import rebuild

    found = sorted(ranklens.rankings(asked, policy).values(), key=lambda one: one[1])[:RANKINGS]
    times = [one[1] for one in found]
    fps = [np.array(one[2], np.uint64) for one in found]
    slates = of_shown([one[0] for one in found], times, fps, asked.partitions[0].record_ms, ranklens.TICK_MS)
    made = list(rebuild(past, History(policy.verbs, 1, 20_000), policy, slates, Counter()))
    return np.concatenate([one.fps for one in made]), np.concatenate([one.features for one in made], axis=1)


def test_a_click_is_known_only_later(data: Path) -> None:
    policy = read_policy()
    past = ranklens.read(policy, LINES)
    found = ranklens.queries_of(past, policy, RANKINGS)
    assert found.relevant.mean() > 0.05
    first = found.query == 0
    rates = found.features[quality.FEATURE_NAMES.index("weak_rate_7d")][first]
    assert len(np.unique(rates)) < first.sum(), "before any click all items of one kind are alike"


def test_models_here_do_not_see_whether_a_commit_is_over() -> None:
    mask = uboot.fair()
    names = [name for name, seen in zip(quality.FEATURE_NAMES, mask, strict=True) if seen]
    assert "author_long_pos" in names
    assert not {"popularity_24h", "trend", "weak_rate_7d", "engaged_ago", "strong_rate_z"} & set(names)


def test_each_average_has_its_own_best_baseline_and_one_in_hindsight() -> None:
    def judged(wide: list[float], narrow: list[float], model: list[float] | None) -> Judged:
        found = Judged(actor=[b"a", b"a", b"a", b"b"], covered=[1.0] * 4, pool=[9] * 4)
        columns = {"author 7 d": wide, "topic 7 d": narrow, "recency": [0.0] * 4}
        for name, values in (columns | ({} if model is None else {"linear": model})).items():
            found.recall[name] = found.first[name] = values
        return found

    tuned = judged([1.0, 1.0, 1.0, 0.0], [0.6, 0.6, 0.6, 1.0], None)
    tested = judged([0.6, 0.6, 0.6, 0.6], [1.0, 1.0, 1.0, 0.0], [0.9, 0.9, 0.9, 0.9])
    found = {(f.name, f.subject): f for f in uboot._figures(tuned, tested)}
    by_query, by_actor = "uboot recall@20 by query", "uboot recall@20 by actor"
    assert found[by_query, "linear over author 7 d"].value == pytest.approx(0.3), "mean 0.75 beats 0.7"
    assert found[by_actor, "linear over topic 7 d"].value == pytest.approx(0.4), "(0.6 + 1) / 2 beats 0.5"
    hindsight = f"{by_query}, best in hindsight"
    assert found[hindsight, "linear over topic 7 d"].value == pytest.approx(0.15)
    assert (f"{by_actor}, best in hindsight", "linear over author 7 d") in found


def test_the_loop_closes(tmp_path: Path) -> None:
    policy = parse_policy(trainedloop.policy_text(True))
    loop = trainedloop.Loop(1, policy, parse_policy(trainedloop.policy_text(False)))
    loop.steps(40, counted=False)
    counts = loop.learn(tmp_path)
    assert counts["logged entries compared"] > 500
    assert counts["logged values that differ"] == 0
    loop.steps(10, counted=True)
    assert sum(map(len, loop.clicks.values())) == 80
    assert loop.served[-1].model != loop.served[0].model or loop.rankers["linear"].scorer.name.startswith(
        "linear"
    )
