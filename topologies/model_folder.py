"""A model on disk: a folder with a manifest and its numbers, never a pickle (before step 9).

    manifest.json         what it is: features and versions, heads, data, metrics, hashes of the other files
    weights.safetensors   linear models; tables.safetensors: calibration of every head
    <head>.txt            LightGBM's own text format, one file a head

Loading checks all of it; what does not fit is named, each difference by itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from models.features import FEATURES
from models.learned.calibration import ENTRIES
from models.learned.scorers import Linear, Predict, Trees
from models.policy import HEADS, Policy
from models.tables import GRID
from streams.errors import ExitCode, OperatorError
from streams.manifest import MANIFEST, file_hash, manifest_hash, write_manifest
from streams.whole_folder import written_whole

FORMAT = 1
WEIGHTS = "weights.safetensors"
TABLES = "tables.safetensors"
LINEAR, TREES, LAMBDARANK = "linear", "trees", "lambdarank"
KINDS = (LINEAR, TREES, LAMBDARANK)
RELEVANCE = "relevance"
"""The one head of a model that only ranks."""

Learned = Linear | Trees


@dataclass(frozen=True, slots=True)
class Parts:
    """What a folder is written from: `manifest` without hashes, `weights` and `tables` by name, `texts` by
    head."""

    manifest: Mapping[str, Any]
    weights: Mapping[str, NDArray[Any]]
    tables: NDArray[np.int32]
    texts: Mapping[str, str]


def feature_versions() -> dict[str, int]:
    """Name -> version of every feature, in order."""
    return {feature.name: feature.version for feature in FEATURES}


def differences(theirs: Mapping[str, int], ours: Mapping[str, int]) -> list[str]:
    """What is different between two sets of features, one sentence each; [] = nothing."""
    found = [f"feature {name} is not known here" for name in theirs if name not in ours]
    found += [f"feature {name} is missing there" for name in ours if name not in theirs]
    found += [
        f"feature {name} is version {theirs[name]} there and {ours[name]} here"
        for name in ours
        if name in theirs and theirs[name] != ours[name]
    ]
    if not found and list(theirs) != list(ours):
        found.append("the features stand in another order")
    return found


# -- writing ------------------------------------------------------------------------------------------------


def write_model(folder: Path, parts: Parts) -> dict[str, Any]:
    """Write a folder whole or not at all, in the place of an older model; returns the manifest.

    Raises OperatorError where the place holds something that is no model, or cannot be written.
    """
    with written_whole(folder, MANIFEST, "model") as part:
        return _fill(part, parts)


def _fill(folder: Path, parts: Parts) -> dict[str, Any]:
    if parts.weights:
        save_file({name: np.ascontiguousarray(a) for name, a in parts.weights.items()}, folder / WEIGHTS)
    save_file({"tables": np.ascontiguousarray(parts.tables)}, folder / TABLES)
    for head, text in parts.texts.items():
        (folder / f"{head}.txt").write_text(text, encoding="utf-8")
    files = {path.name: file_hash(path) for path in sorted(folder.iterdir())}
    manifest = {"format": FORMAT, "features": feature_versions(), **parts.manifest, "files": files}
    return write_manifest(folder, manifest)


# -- reading ------------------------------------------------------------------------------------------------


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, checked against the files beside it and the features of this version.

    Raises OperatorError (bad input): what is missing, changed or different, all of it.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        wanted = ("kind", "name", "heads", "features", "files", "hash")
        missing = [name for name in wanted if name not in manifest]
    except FileNotFoundError as error:
        raise _bad(folder, [f"{MANIFEST} is missing"], "train one with `feedrank train`") from error
    except (OSError, ValueError, TypeError) as error:
        raise _bad(folder, [f"{MANIFEST} cannot be read ({error})"]) from error
    if missing:
        raise _bad(folder, [f"the manifest lacks {', '.join(missing)}"])
    problems = [] if manifest.get("format") == FORMAT else [f"format {manifest.get('format')}, not {FORMAT}"]
    if manifest["kind"] not in KINDS:
        problems.append(f"its kind is {manifest['kind']!r}, not one of {', '.join(KINDS)}")
    if manifest["hash"] != manifest_hash(manifest):
        problems.append("the manifest was changed after training: its hash does not fit")
    for name, digest in manifest["files"].items():
        path = folder / Path(name).name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif file_hash(path) != digest:
            problems.append(f"{name} is not the file that was trained: its hash does not fit")
    problems += differences(manifest["features"], feature_versions())
    if problems:
        raise _bad(folder, problems)
    found: dict[str, Any] = manifest
    return found


def _bad(
    folder: Path, problems: Sequence[str], advice: str = "train it again with `feedrank train`"
) -> OperatorError:
    return OperatorError(f"the model {folder}: {'; '.join(problems)}; {advice}", ExitCode.BAD_INPUT)


def read_model(folder: Path, policy: Policy) -> Learned:
    """The model's scorer, its heads weighed by the policy. Raises OperatorError (bad input)."""
    manifest = read_manifest(folder)
    heads = manifest["heads"]
    worth = {head.name.lower(): float(policy.values[head]) for head in HEADS} | {RELEVANCE: float(GRID)}
    unknown = [head for head in heads if head not in worth]
    if unknown:
        raise _bad(folder, [f"heads {', '.join(unknown)} are not known here"])
    values = [worth[head] for head in heads]
    name = f"{manifest['name']}-{manifest['hash'][:8]}"
    try:
        tables = load_file(folder / TABLES)["tables"]
        _shaped(folder, "tables", tables, (len(heads), ENTRIES))
        if manifest["kind"] != LINEAR:
            boosters = [_booster(folder / f"{head}.txt") for head in heads]
            predict, shap = ([pair[which] for pair in boosters] for which in (0, 1))
            return Trees(name, predict, tables, values, shap)
        numbers = load_file(folder / WEIGHTS)
        weights, bias = numbers["weights"], numbers["bias"]
    except (OSError, KeyError, SafetensorError) as error:
        raise _bad(folder, [f"its numbers cannot be read ({error})"]) from error
    _shaped(folder, "weights", weights, (len(heads), len(FEATURES)))
    _shaped(folder, "bias", bias, (len(heads),))
    return Linear(name, weights, bias, tables, values)


def _shaped(folder: Path, name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise _bad(folder, [f"{name} has the shape {array.shape}, not {shape}"])


def _booster(path: Path) -> tuple[Predict, Predict]:
    """A LightGBM model's margins and SHAP values; one thread: the job's cores are busy with partitions."""
    try:
        import lightgbm
    except ImportError as error:
        raise OperatorError(
            f"{path} is a LightGBM model and lightgbm is missing; in the checkout: pip install -e '.[train]'"
        ) from error
    try:
        booster = lightgbm.Booster(model_file=str(path))
    except lightgbm.basic.LightGBMError as error:
        raise OperatorError(f"{path} is no model of LightGBM: {error}", ExitCode.BAD_INPUT) from error

    def predict(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        margins: NDArray[np.float64] = booster.predict(rows, raw_score=True, num_threads=1)
        return margins

    def shap(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = booster.predict(rows, pred_contrib=True, num_threads=1)
        return found

    return predict, shap
