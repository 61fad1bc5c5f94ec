"""Benchmark `models`: feeds per CPU-second by the model that ranks, and CPU per slice: script, JSON lines.

    python -m benchmarks.models [--items 50000] [--users 256]

The world of `benchmarks.rank`: users with 200 follows, 24 authors and 16 topics, 400 candidates each, all
features, slices of 64; whole ranking from stored rows to feeds, reasons included. Models are trained here,
on made-up labels over these features: what they cost depends on how many trees there are, not on what they
learned. Contenders take turns slice by slice, so that what else the machine does hits all alike.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np

from benchmarks.figure import Figure
from benchmarks.measure import on_one_thread
from benchmarks.rank import Bench, timed
from feedrank.dataset.table import DataSet
from feedrank.training.fit import Spec, train
from models.features import FEATURE_NAMES, compute
from models.learned.cascade import Cascade
from models.policy import parse_policy
from models.ranker import Ranker
from models.score import RateLift, Scorer
from models.tables import GRID
from topologies.model_folder import read_model, write_model

ROUNDS = 7
TREES, LEAVES = 100, 15
HEAVY = 100
WHY = 10
EXPLAINED = f"light + trees, SHAP values of {WHY} entries"
GOALS = {"default": 5_000.0, "linear": 5_000.0, "light + lambdarank": 1_500.0, "light + trees": 1_500.0}


def read_text() -> str:
    """The bundled policy."""
    return files("models").joinpath("default_policy.toml").read_text("utf-8")


def learned(bench: Bench, folder: Path) -> dict[str, Scorer]:
    """Models of the bench's own features: labels follow some of them, with chance."""
    data = _data(bench, folder)
    found: dict[str, Scorer] = {"default": RateLift(bench.policy)}
    for kind in ("linear", "lambdarank", "trees"):
        trained = train(data, Spec(kind, kind, trees=TREES, leaves=LEAVES, rate=0.02), lambda told: None)
        write_model(folder / kind, trained.parts(data, {}))
        model = read_model(folder / kind, bench.policy)
        name = kind if kind == "linear" else f"light + {kind}"
        found[name] = model if kind == "linear" else Cascade(RateLift(bench.policy), model, HEAVY)
        trees = ", ".join(str(one.told.get("trees", "-")) for one in trained.heads)
        print(f"  {kind}: trees by head {trees}", file=sys.stderr, flush=True)
    return found


def _data(bench: Bench, folder: Path) -> DataSet:
    rng = np.random.default_rng(1)
    candidates = bench.gather_all()
    planes, slates = [], []
    for number, (scene, found) in enumerate(zip(bench.scenes(candidates), candidates, strict=True)):
        real = found.item >= 0
        planes.append(compute(scene)[:, real].astype(np.int32))
        slates.append(np.nonzero(real)[0] + number * bench.slice_users)
    features, slate = np.concatenate(planes, axis=1), np.concatenate(slates)
    some = np.sort(rng.permutation(len(slate))[:30_000])
    features, slate = features[:, some], slate[some]
    rates = features[FEATURE_NAMES.index("weak_rate_7d")] + features[FEATURE_NAMES.index("topic_long_pos")]
    odds = 0.8 * (rates - rates.mean()) / GRID - 1.0
    labels = (rng.random((3, len(slate))) < 1 / (1 + np.exp(-odds)) * [[1.0], [0.4], [0.2]]).astype(np.int8)
    n, nobody = len(slate), np.full(len(slate), "", object)
    nothing, minus = np.zeros(n, np.int64), np.full(n, -1)
    yes = np.ones(n, np.bool_)
    split = np.zeros(n, np.int8)  # no rows to stop early on: all trees are there
    return DataSet(
        folder / "made up", features, labels, slate, nothing, minus, labels[0] * 1.0, np.full(n, np.nan),
        yes, yes, split, nobody, nobody, nobody, nobody, minus, nothing, nothing, {"source": "made up"},
    )  # fmt: skip


def figures(bench: Bench) -> Iterator[Figure]:
    """Least CPU of each slice over the rounds for feeds a second; all of them for the percentiles."""
    with tempfile.TemporaryDirectory(prefix="feedrank-models-") as folder:
        scorers = learned(bench, Path(folder))
        rankers = {
            name: Ranker(bench.policy, bench.world.index, 7, scorer) for name, scorer in scorers.items()
        }
        text = read_text().replace("[surfaces.for_you]", f"[model]\nwhy_entries = {WHY}\n[surfaces.for_you]")
        told = parse_policy(text)
        rankers[EXPLAINED] = Ranker(told, bench.world.index, 7, scorers["light + trees"])
        cpu = {name: np.empty((ROUNDS, len(bench.slices))) for name in rankers}
        for ranker in rankers.values():
            bench.ranker = ranker
            bench.rank()
        for round_ in range(ROUNDS):
            for number in range(len(bench.slices)):
                for name, ranker in rankers.items():
                    bench.ranker = ranker
                    cpu[name][round_, number] = timed(lambda at=number: bench.rank_slice(at))  # type: ignore[misc]
    default = cpu["default"].min(axis=0).sum()
    note = f"400 candidates x {len(FEATURE_NAMES)} features, slices of {bench.slice_users}"
    for name, seconds in cpu.items():
        feeds_per_s = float(bench.feeds / seconds.min(axis=0).sum())
        ratio = seconds.min(axis=0).sum() / default
        more = f"{note}; {ratio:.2f} times the default model's CPU"
        yield Figure("models", name, feeds_per_s, "feeds/s of CPU", goal=GOALS.get(name), note=more)
        for p in (50, 99):
            value = float(np.percentile(seconds, p)) * 1e3
            yield Figure(
                "models, per slice", f"{name}, p{p}", value, "ms", better="lower", note="CPU of one slice"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--users", type=int, default=256)
    asked = parser.parse_args()
    for figure in figures(Bench(asked.items, asked.users)):
        print(json.dumps(figure.fields()), flush=True)


if __name__ == "__main__":
    on_one_thread("benchmarks.models")
    main()
