"""Fitting: one data set, one kind of model, one seed; the same again gives the same folder."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedrank.dataset.table import LABELS, DataSet
from feedrank.training.boosters import Boosted, Held, Slates, boost, rank
from feedrank.training.linear import best_linear, whole_units
from models.learned import position
from models.learned.calibration import Calibration, Platt, fit_isotonic, fit_platt, table_of
from models.learned.logistic import Logistic
from models.learned.scorers import fixed_point
from streams.errors import ExitCode, OperatorError
from topologies.model_folder import LAMBDARANK, LINEAR, RELEVANCE, TREES, Parts, feature_versions

F64 = NDArray[np.float64]
Labels = NDArray[np.bool_]
Say = Callable[[str], None]

ENOUGH = 20
"""Positives (and negatives) that a head needs to be learned; and that calibration needs to have rows of its
own."""

CORRECTED, IGNORED = "corrected", "ignored"
POSITIONS = (CORRECTED, IGNORED)
OFFSETS_L2 = 1e-2


@dataclass(frozen=True, slots=True)
class Spec:
    """`kind`: of KINDS in topologies/model_folder.py; `calibration`: platt or isotonic; `trees`: at most so
    many, of `leaves` each; `position`: of POSITIONS."""

    kind: str
    name: str
    calibration: str = "platt"
    seed: int = 1
    trees: int = 400
    leaves: int = 15
    rate: float = 0.05
    position: str = CORRECTED


@dataclass(slots=True)
class Fitted:
    """One head: its margins, how they were calibrated, and what is to be told of it."""

    head: str
    margin: Callable[[F64], F64]
    calibration: Calibration
    told: dict[str, Any]
    linear: Logistic | None = None
    text: str = ""

    def line(self) -> str:
        """What was chosen, for people; the position offsets stand in the manifest."""
        told = self.told
        said = [f"{told['rows']:,} rows", f"{told['positives']:,} positives"]
        said += [f"{name} {told[name]}" for name in ("l2", "trees") if name in told]
        if "constant" in told:
            said.append(f"the same probability for all, {told['constant']:.4f}")
        else:
            said.append(f"calibrated on {told['calibrated_on']}")
        return f"{self.head}: {', '.join(said)}"


@dataclass(slots=True)
class Trained:
    """A model before it is written."""

    spec: Spec
    heads: list[Fitted]
    warnings: list[str] = field(default_factory=list)

    def parts(self, data: DataSet, metrics: dict[str, Any]) -> Parts:
        """What the folder is written from."""
        train = data.of("train")
        manifest: dict[str, Any] = {
            "name": self.spec.name,
            "kind": self.spec.kind,
            "heads": [one.head for one in self.heads],
            "exact": self.spec.kind == LINEAR,
            "position": self.spec.position if position.known(train.position) else "unknown",
            "seed": self.spec.seed,
            "training": {one.head: one.told for one in self.heads},
            "calibration": {one.head: _calibration_told(one.calibration) for one in self.heads},
            "data": {
                "file": data.path.name,
                "source": data.meta.get("source"),
                "policy": data.meta.get("policy"),
                "from_ms": int(train.time_ms.min()),
                "to_ms": int(train.time_ms.max()),
                "rows": len(train),
            },
            "metrics": metrics,
            "warnings": self.warnings,
        }
        weights: dict[str, NDArray[Any]] = {}
        if self.spec.kind == LINEAR:
            fixed = [fixed_point(one.linear) for one in self.heads if one.linear is not None]
            weights = {
                "weights": np.stack([w for w, _ in fixed]),
                "bias": np.array([b for _, b in fixed], np.int64),
            }
            manifest["normalisation"] = {
                one.head: {"mean": one.linear.mean.tolist(), "deviation": one.linear.deviation.tolist()}
                for one in self.heads
                if one.linear is not None
            }
        tables = np.stack([table_of(one.calibration) for one in self.heads])
        return Parts(manifest, weights, tables, {one.head: one.text for one in self.heads if one.text})


def _calibration_told(found: Calibration) -> dict[str, Any]:
    if isinstance(found, Platt):
        return {"method": "platt", "slope": found.slope, "offset": found.offset}
    return {"method": "isotonic", "blocks": len(found.value)}


def train(data: DataSet, spec: Spec, say: Say) -> Trained:
    """Fit all heads. Raises OperatorError where there is nothing to learn from."""
    fit_rows, tune_rows = data.of("train"), data.of("valid")
    if not len(fit_rows):
        raise OperatorError(
            f"{data.path} has no row to train on; make it with smaller --valid and --test", ExitCode.BAD_INPUT
        )
    trained = Trained(spec, [])
    if spec.kind == LAMBDARANK:
        trained.heads.append(_ranker(fit_rows, tune_rows, spec))
        say(trained.heads[-1].line())
        return trained
    for number, head in enumerate(LABELS):
        label = fit_rows.labels[number] > 0
        positives = int(label.sum())
        if not _enough(label):
            trained.warnings.append(
                f"{head}: {positives} positives among {len(label)} rows; {ENOUGH} of both are needed, "
                "so its probability is the same for all items"
            )
            trained.heads.append(_constant(head, positives, len(label), spec))
        else:
            trained.heads.append(_head(head, number, fit_rows, tune_rows, spec))
        say(trained.heads[-1].line())
    if all("constant" in one.told for one in trained.heads):
        raise OperatorError(
            f"{data.path} gives no head enough to learn from: {'; '.join(trained.warnings)}. Collect more: "
            "a longer time, or more users",
            ExitCode.BAD_INPUT,
        )
    return trained


def _enough(label: Labels) -> bool:
    positives = int(label.sum())
    return min(positives, len(label) - positives) >= ENOUGH


def _constant(head: str, positives: int, rows: int, spec: Spec) -> Fitted:
    rate = (positives + 0.5) / (rows + 1.0)
    nothing = np.zeros(len(feature_versions()))
    model = Logistic(nothing, math.log(rate / (1 - rate)), nothing, nothing)
    told = {"rows": rows, "positives": positives, "constant": rate}
    text = "" if spec.kind == LINEAR else boost_nothing(len(nothing))
    margin = model.margin if spec.kind == LINEAR else _zero
    calibration = Platt(1.0, 0.0) if spec.kind == LINEAR else Platt(1.0, model.bias)
    return Fitted(head, margin, calibration, told, model, text)


def _zero(features: F64) -> F64:
    return np.zeros(features.shape[1])


def boost_nothing(features: int) -> str:
    """A LightGBM model that always says 0."""
    return boost(Held(np.zeros((features, 2)), np.array([True, False])), None, Spec(TREES, "", trees=1)).text


def _head(head: str, number: int, rows: DataSet, tune: DataSet, spec: Spec) -> Fitted:
    label, tune_label = rows.labels[number] > 0, tune.labels[number] > 0
    tunable = _enough(tune_label)
    told: dict[str, Any] = {"rows": len(label), "positives": int(label.sum())}
    correct = spec.position == CORRECTED and position.known(rows.position)
    linear, text, offsets = None, "", None
    margin: Callable[[F64], F64]
    if spec.kind == LINEAR:
        shown = rows.position if correct else None
        linear, told["l2"], offsets = best_linear(whole_units(rows), label, tune, tune_label, tunable, shown)
        margin = linear.margin
    else:
        if correct:
            offsets = position.offsets_of(whole_units(rows), label, rows.position, OFFSETS_L2)
        train_on = Held(rows.features.astype(np.float64), label, _given(offsets, rows.position))
        held = Held(tune.features.astype(np.float64), tune_label, _given(offsets, tune.position))
        boosted = boost(train_on, held if tunable else None, spec)
        told["trees"], text, margin = boosted.trees, boosted.text, boosted.margin
    if offsets is not None:
        told["position_offsets"] = [round(one, 4) for one in offsets.tolist()]
    on, on_label = (tune, tune_label) if tunable else (rows, label)
    told["calibrated_on"] = "valid" if tunable else "train"
    features = whole_units(on) if spec.kind == LINEAR else on.features.astype(np.float64)
    return Fitted(head, margin, _calibrate(margin(features), on_label, spec), told, linear, text)


def _given(offsets: F64 | None, shown: NDArray[np.int64]) -> F64 | None:
    """float64[n]: what the trees need not explain."""
    return None if offsets is None else offsets[position.bins(shown)]


def _calibrate(margin: F64, label: Labels, spec: Spec) -> Calibration:
    return fit_isotonic(margin, label) if spec.calibration == "isotonic" else fit_platt(margin, label)


def grades(rows: DataSet) -> NDArray[np.int64]:
    """int64[n]: 2 for a strong action, 1 for a weak one, 0 for none or a negative one."""
    weak, strong, negative = (row > 0 for row in rows.labels)
    return np.where(negative, 0, np.where(strong, 2, np.where(weak, 1, 0))).astype(np.int64)


def _ranker(rows: DataSet, tune: DataSet, spec: Spec) -> Fitted:
    grade, tune_grade = grades(rows), grades(tune)
    positives = int((grade > 0).sum())
    if not _enough(grade > 0):
        raise OperatorError(
            f"{rows.path} has {positives} rows with an action to train on and {len(grade) - positives} "
            f"without; {ENOUGH} of both are needed to rank by. Collect more: a longer time, or more users",
            ExitCode.BAD_INPUT,
        )
    offsets = None
    if spec.position == CORRECTED and position.known(rows.position):
        offsets = position.offsets_of(whole_units(rows), grade > 0, rows.position, OFFSETS_L2)

    def slates(of: DataSet, grades_of: NDArray[np.int64]) -> Slates:
        return Slates(of.features.astype(np.float64), grades_of, of.slate, _given(offsets, of.position))

    held = slates(tune, tune_grade) if _enough(tune_grade > 0) else None
    boosted: Boosted = rank(slates(rows, grade), held, spec)
    on, label = (tune, tune_grade > 0) if held else (rows, grade > 0)
    calibration = _calibrate(boosted.margin(on.features.astype(np.float64)), label, spec)
    told: dict[str, Any] = {
        "rows": len(grade),
        "positives": positives,
        "trees": boosted.trees,
        "calibrated_on": "valid" if held else "train",
    }
    if offsets is not None:
        told["position_offsets"] = [round(one, 4) for one in offsets.tolist()]
    return Fitted(RELEVANCE, boosted.margin, calibration, told, None, boosted.text)
