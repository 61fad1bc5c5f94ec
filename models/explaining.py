"""Which words and numbers explain a model's feeds (10): by what kind of model ranks."""

from __future__ import annotations

import numpy as np

from models.explain import Explainer, ShapExplainer, lift_of
from models.features import FEATURES
from models.learned.cascade import Cascade
from models.learned.scorers import Linear, Trees
from models.policy import Policy
from models.score import Scorer


def explainer_of(policy: Policy, scorer: Scorer) -> Explainer:
    """Of light + heavy the heavy one explains: the entries at the top are in its order. Trees that do not
    explain leave entries with their source alone; a scorer of another kind is told by the policy's weights.
    """
    model = scorer.heavy if isinstance(scorer, Cascade) else scorer
    if isinstance(model, Linear):
        return Explainer(model.lift)
    if isinstance(model, Trees):
        entries = policy.model.why_entries
        if entries and model.explains:
            return ShapExplainer(model.lifts, entries)
        return Explainer(np.zeros(len(FEATURES)))
    return Explainer(lift_of(policy))
