"""Which trained models a policy names (step 9): its table `[model]`."""

from __future__ import annotations

from dataclasses import dataclass

from models.policy_source import Section

CANDIDATES_MAX = 2_000
WHY_ENTRIES_MAX = 100


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Folders of trained models: `light` scores all candidates (None: the default model), `heavy` the best
    `heavy_candidates` of them (None: nothing does). `why_entries`: how many entries of a feed, from its top,
    trees explain by SHAP values; the others name their source."""

    light: str | None = None
    heavy: str | None = None
    heavy_candidates: int = 100
    why_entries: int = 0


def model_choice(section: Section) -> ModelChoice:
    """The table, where it is there. Raises PolicyError."""
    what = "a folder: 1 to 200 printable characters"
    light, heavy = (
        section.text(key, r"[^\x00-\x1f]{1,200}", what) if key in section.values else None
        for key in ("light", "heavy")
    )
    heavy_candidates = section.whole("heavy_candidates", 1, CANDIDATES_MAX, 100)
    choice = ModelChoice(light, heavy, heavy_candidates, section.whole("why_entries", 0, WHY_ENTRIES_MAX, 0))
    if heavy is None and "heavy_candidates" in section.values:
        raise section.error("heavy_candidates", "has no effect without heavy; name a model or remove it")
    section.close()
    return choice
