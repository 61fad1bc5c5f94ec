"""The job takes over a new model without a restart, and keeps the old one where the new one is broken."""

from __future__ import annotations

import asyncio
import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from feedrank.cli import run
from models.learned.cascade import Cascade
from models.learned.scorers import Linear
from models.policy import Policy, parse_policy
from models.score import Scorer
from streams.errors import ExitCode, OperatorError
from streams.manifest import MANIFEST
from streams.metrics import Metrics
from tests.feedrank.test_train import data_set
from topologies.model_watch import ModelWatch

TEXT = files("models").joinpath("default_policy.toml").read_text()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two linear models of different data, `a` and `b`, and trees `t`."""
    root = tmp_path_factory.mktemp("models")
    data_set(root / "one.parquet")
    data_set(root / "two.parquet", rate=0.5)
    for name, data, kind in (("a", "one", "linear"), ("b", "two", "linear"), ("t", "one", "trees")):
        arguments = [str(root / f"{data}.parquet"), str(root / name), "--kind", kind, "--trees", "10"]
        assert run(["train", *arguments]) == 0
    return root


def policy(table: str) -> Policy:
    return parse_policy(TEXT + f"\n[model]\n{table}\n")


class Watched:
    """A watch and what it gave."""

    def __init__(self, root: Path, table: str) -> None:
        self.given: list[Scorer] = []
        self.metrics = Metrics()
        self.watch = ModelWatch(policy(table), root, self.given.append, self.metrics, poll_s=0.01)

    def count(self, outcome: str) -> float:
        return self.metrics.value("feedrank_models_total", outcome=outcome)


@pytest.fixture
def place(trained: Path, tmp_path: Path) -> Path:
    """A folder with model `m`, a copy of `a`."""
    shutil.copytree(trained / "a", tmp_path / "m")
    return tmp_path


def test_a_model_is_loaded_at_start(place: Path) -> None:
    watched = Watched(place, 'light = "m"')
    watched.watch.start()
    (scorer,) = watched.given
    assert isinstance(scorer, Linear)
    assert scorer.name.startswith("a-")


def test_light_and_heavy_make_a_cascade(trained: Path) -> None:
    watched = Watched(trained, 'light = "a"\nheavy = "t"\nheavy_candidates = 30')
    watched.watch.start()
    (scorer,) = watched.given
    assert isinstance(scorer, Cascade)
    assert scorer.count == 30


def test_a_new_model_is_taken_over(place: Path, trained: Path) -> None:
    watched = Watched(place, 'light = "m"')
    watched.watch.start()
    asyncio.run(watched.watch.look())
    assert len(watched.given) == 1
    shutil.rmtree(place / "m")
    shutil.copytree(trained / "b", place / "m")
    asyncio.run(watched.watch.look())
    assert watched.given[-1].name.startswith("b-")
    assert watched.count("loaded") == 2


def test_a_broken_model_leaves_the_old_one(place: Path) -> None:
    watched = Watched(place, 'light = "m"')
    watched.watch.start()
    manifest = place / "m" / MANIFEST
    whole = manifest.read_text()
    for broken in ("{", whole.replace('"seed": 1', '"seed": 2'), None):
        manifest.unlink() if broken is None else manifest.write_text(broken)
        asyncio.run(watched.watch.look())
    assert len(watched.given) == 1
    assert watched.count("refused") == 3
    manifest.write_text(whole)
    asyncio.run(watched.watch.look())
    assert len(watched.given) == 2


def test_it_looks_by_itself(place: Path, trained: Path) -> None:
    watched = Watched(place, 'light = "m"')
    watched.watch.start()

    async def replaced() -> None:
        taken = asyncio.Event()
        watched.watch.use = lambda scorer: (watched.given.append(scorer), taken.set())[0]
        task = asyncio.create_task(watched.watch.run())
        shutil.rmtree(place / "m")
        shutil.copytree(trained / "b", place / "m")
        await asyncio.wait_for(taken.wait(), 120)
        task.cancel()

    asyncio.run(replaced())
    assert watched.given[-1].name.startswith("b-")


def test_a_model_that_is_missing_at_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"manifest\.json is missing") as error:
        Watched(tmp_path, 'light = "m"').watch.start()
    assert error.value.exit_code == ExitCode.BAD_INPUT


def test_a_policy_without_models_watches_nothing(tmp_path: Path) -> None:
    watched = ModelWatch(parse_policy(TEXT), tmp_path, lambda scorer: None, Metrics())
    watched.start()
    asyncio.run(watched.run())
