"""What a feature is (8): one definition holds its name, version, default, inputs and computation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.features.scene import Scene

F64 = NDArray[np.float64]
Compute = Callable[[Scene, F64], None]

FEATURE_MAX = 1 << 21
"""Every value is an integer (units of 1/4096) with at most this size: weights up to 64 and 64 features keep
all sums below 2^53."""


class Told(NamedTuple):
    """What `why` says of an item that stands high because of a feature: `words`, where the value is better
    than `usual` (a grid integer)."""

    words: str
    usual: int = 0


@dataclass(frozen=True, slots=True)
class Feature:
    """One number per user and candidate.

    `compute(scene, out)` fills out float64[U, C] with grid integers; what it writes in places of padding does
    not matter. `default`: the value where there is nothing to say. `inputs`: the fields it reads. `version`
    grows whenever the formula changes, so that old logs are not mixed with new ones. `meaning` is for people;
    `reason`: what `why` says of it, if anything.
    """

    name: str
    family: str
    version: int
    default: int
    inputs: tuple[str, ...]
    meaning: str
    reason: Told | None
    compute: Compute


class Family:
    """The features of one module, in the order of their definitions."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.features: list[Feature] = []

    def feature(
        self, *inputs: str, version: int = 1, default: int = 0, reason: Told | None = None
    ) -> Callable[[Compute], Compute]:
        """Make a function a feature: its name is the feature's, its docstring the meaning."""

        def define(compute: Compute) -> Compute:
            meaning = " ".join((compute.__doc__ or "").split())
            assert meaning, f"feature {compute.__name__} says nothing of itself"
            name = compute.__name__
            self.features.append(Feature(name, self.name, version, default, inputs, meaning, reason, compute))
            return compute

        return define
