"""`feedrank train DATA FOLDER`: a model from a data set, calibrated, measured, ready for the job."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from feedrank.dataset.table import load
from feedrank.training.fit import CORRECTED, POSITIONS, Spec
from feedrank.training.fit import train as fit_model
from feedrank.training.report import measured
from streams.errors import OperatorError
from streams.manifest import MANIFEST
from streams.whole_folder import refuse_other
from topologies.model_folder import KINDS, LINEAR, write_model

CALIBRATIONS = ("platt", "isotonic")

Data = Annotated[Path, typer.Argument(help="A Parquet file of `feedrank dataset`.")]
Folder = Annotated[Path, typer.Argument(help="Where the model goes; an older model there is replaced.")]


def train(
    data: Data,
    folder: Folder,
    kind: Annotated[str, typer.Option(help="linear, trees or lambdarank.")] = LINEAR,
    calibration: Annotated[str, typer.Option(help="platt or isotonic.")] = "platt",
    seed: Annotated[int, typer.Option(min=0, help="The same seed and data give the same model.")] = 1,
    trees: Annotated[int, typer.Option(min=1, max=5_000, help="Trees at most.")] = 400,
    leaves: Annotated[int, typer.Option(min=2, max=255, help="Leaves of a tree.")] = 15,
    rate: Annotated[float, typer.Option(min=0.001, max=1, help="Learning rate of trees.")] = 0.05,
    position: Annotated[str, typer.Option(help="corrected or ignored: what was shown high.")] = CORRECTED,
    name: Annotated[str | None, typer.Option(help="The model's name; none: the folder's.")] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="The manifest as JSON.")] = False,
) -> None:
    """Train a model; its folder is what the policy names."""
    for given, known, option in (
        (kind, KINDS, "--kind"),
        (calibration, CALIBRATIONS, "--calibration"),
        (position, POSITIONS, "--position"),
    ):
        if given not in known:
            raise OperatorError(f"{option} is {given!r}; choose one of {', '.join(known)}")
    refuse_other(folder, MANIFEST, "model")
    rows = load(data)
    spec = Spec(kind, name or folder.name, calibration, seed, trees, leaves, rate, position)
    trained = fit_model(rows, spec, lambda told: print(told, file=sys.stderr, flush=True))
    manifest = write_model(folder, trained.parts(rows, measured(trained, rows)))
    if json_lines:
        print(json.dumps(manifest, ensure_ascii=False))
        return
    _say(folder, manifest)


def _say(folder: Path, manifest: dict[str, Any]) -> None:
    print(f"{folder}: {manifest['kind']}, {manifest['name']}-{manifest['hash'][:8]}")
    metrics = manifest["metrics"]
    if not metrics:
        print("  not measured: the data set has no test rows (--test)")
    for head in manifest["heads"]:
        of = metrics.get(head)
        if of:
            names = ("auc", "log_loss", "log_loss_of_the_mean", "calibration_error")
            auc, loss, of_mean, error = (_shown(of[key]) for key in names)
            print(
                f"  {head}: AUC {auc}, log loss {loss} (of the mean {of_mean}), calibration error {error}, "
                f"{of['positives']} positives"
            )
    for key, of in metrics.items():
        if key.startswith("ndcg"):
            low, high = _shown(of["low"]), _shown(of["high"])
            print(f"  {key} by {of['by']}: {_shown(of['value'])} ({low} to {high})")
    for warning in manifest["warnings"]:
        print(f"  warning: {warning}")


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
