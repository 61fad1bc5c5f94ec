"""A comparison as text and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from feedrank.evaluation.measure import Comparison, Measured
from feedrank.evaluation.offline import Answer
from models.evaluation.bootstrap import Estimate

Answers = Mapping[str, list[Answer]]


def document(found: Comparison, answers: Answers, about: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, as JSON takes it: numbers that do not exist are None."""
    base = found.models[0].name
    return {
        **about,
        "rows": found.rows,
        "slates": len(found.user),
        "compared_with": base,
        "segments": {name: int(chosen.sum()) for name, chosen in found.segments.items()},
        "models": [_model(found, model) for model in found.models],
        "off_policy": {name: [one.fields() for one in some] for name, some in answers.items()},
    }


def _model(found: Comparison, model: Measured) -> dict[str, Any]:
    lists: dict[str, Any] = {}
    for metric in model.lists:
        lists[metric] = {"all": _estimate(found.estimate(model, metric))}
        lists[metric] |= {name: _estimate(found.estimate(model, metric, name)) for name in found.segments}
        if model is not found.models[0]:
            lists[metric]["gain"] = _estimate(found.gain(model, metric))
    return {
        "name": model.name,
        "lists": lists,
        "whole": {name: _number(value) for name, value in model.whole.items()},
        "heads": {head: {n: _number(v) for n, v in of.items()} for head, of in model.heads.items()},
        "calibration": {head: [list(one) for one in bins] for head, bins in model.bins.items()},
    }


def _estimate(one: Estimate) -> dict[str, Any]:
    return {name: _number(value) for name, value in one._asdict().items()}


def _number(value: float) -> float | int | None:
    if isinstance(value, int):
        return value
    return None if math.isnan(value) else float(f"{value:.6g}")


def text(page: Mapping[str, Any]) -> Iterator[str]:
    """Lines for a terminal."""
    yield f"{page['data']}, split {page['split']}: {page['rows']} rows in {page['slates']} slates"
    yield "  " + ", ".join(f"{count} of {name}" for name, count in page["segments"].items())
    for model in page["models"]:
        yield ""
        yield model["name"]
        for metric, of in model["lists"].items():
            yield f"  {metric:<12} {_with_interval(of['all'])}{_gain(of, page['compared_with'])}"
            parts = [f"{n} {_shown(of[n]['value'])}" for n in page["segments"] if of[n]["clusters"]]
            yield f"  {'':<12} {', '.join(parts)}"
        for name, value in model["whole"].items():
            yield f"  {name:<12} {_shown(value)}"
        for head, of in model["heads"].items():
            parts = [f"{n} {_shown(v)}" for n, v in of.items() if n != "positives"]
            yield f"  {head:<12} {', '.join(parts)}, {of['positives']:g} positives"
        for one in page["off_policy"].get(model["name"], ()):
            yield f"  {one['estimator']:<12} {_off_policy(one)}"


def _off_policy(one: Mapping[str, Any]) -> str:
    if "refused" in one:
        return f"refused: {one['refused']}"
    shown = _with_interval(one)
    return f"{shown}, effective sample {one['effective_sample']:.0f} of {one['rows']}"


def _with_interval(of: Mapping[str, Any]) -> str:
    return f"{_shown(of['value'])} ({_shown(of['low'])} to {_shown(of['high'])})"


def _gain(of: Mapping[str, Any], base: str) -> str:
    gain = of.get("gain")
    if gain is None or gain["value"] is None:
        return ""
    clear = "clear" if gain["low"] > 0 or gain["high"] < 0 else "not clear of zero"
    return f"; over {base} {gain['value']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f}, {clear})"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
