"""docs/features.md: every feature as it is defined, with what was measured of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models.features import FEATURES, Feature
from models.policy import HEADS, Policy
from models.tables import GRID

HEAD = """# Features

<!-- Made by `feedrank features --markdown`, of the definitions and feedrank/catalogue/measured.json. -->

Every number that a ranking sees, in the order of the data set's columns. Formulas in integers are in
[ranking.md](ranking.md); how to add one is in [adding-a-feature.md](adding-a-feature.md).

*Of* says what a feature is a function of: an item, an item at a moment, a user, a user and an author or
topic, or a user and an item (a pair). *Default* is its value where there is nothing to say, *missing* the
share of rows that hold just that. *Without it* is what its absence costs: NDCG@10 of a linear model less
that of the same model trained without the feature, on the same test slates, with the 95 % interval of the
paired difference; **bold** where that leaves out zero. For features that the default model weighs, the same
for that model with the weight at 0. `-`: the data set never moves it. Features say much the same as others
of their family, so one alone is seldom missed; the table of families says what all of them together are
worth. One interval in twenty is clear of zero by chance alone.

What shows no effect here stays where these data sets say little of it: negative actions are rare in them,
nobody in them follows people who engage (`followed_engagers`), impressions of the closed loop are of what
was looked at, which leaves rates by place nothing to correct (`rate_debiased`), an hour of simulated
time says nothing of hours of the day, and users' own rates move all candidates of a user alike, which
only matters beside other features. The default model without a rate of 7 days has nothing to say how
likely an action is, takes it for certain, and so loses much: that measures the level, not the order.
Tastes for topics do harm to it on RankLens; no feature does harm clear of zero in both models.
"""


def page(policy: Policy, measured: Mapping[str, Any]) -> str:
    """The whole page."""
    lines = [HEAD]
    for name, one in measured.items():
        ndcg = one["ndcg"]
        lines.append(
            f"* **{name}**: {one['told']}; {one['train_rows']:,} rows to train on, "
            f"{one['test_slates']:,} slates with an action to test on; NDCG@10 linear "
            f"{ndcg['linear']:.4f}, default model {ndcg['default_model']:.4f}."
        )
    lines += ["", "## Families", "", _row(["family", "features", *_columns(measured)])]
    lines.append(_rule(2 + 2 * len(measured)))
    for family in dict.fromkeys(feature.family for feature in FEATURES):
        count = sum(feature.family == family for feature in FEATURES)
        cells = [cell for one in measured.values() for cell in _deltas(one["families"].get(family))]
        lines.append(_row([family, str(count), *cells]))
    for family in dict.fromkeys(feature.family for feature in FEATURES):
        lines += ["", f"## {family}", ""]
        columns = [
            c for name in measured for c in (f"{name}: missing", "without it", "default model without it")
        ]
        lines += [_row(["feature", "meaning", "weights", *columns]), _rule(3 + len(columns))]
        lines += [_feature(one, policy, measured) for one in FEATURES if one.family == family]
    return "\n".join(lines) + "\n"


def _feature(feature: Feature, policy: Policy, measured: Mapping[str, Any]) -> str:
    weights = [policy.weights[head].get(feature.name, 0) / GRID for head in HEADS]
    shown = ", ".join(f"{w:.3g}" if w else "-" for w in weights) if any(weights) else ""
    about = f"of: {feature.of.value}; reads {', '.join(feature.inputs)}; default {feature.default / GRID:g}"
    meaning = f"{feature.meaning} ({about}; version {feature.version})"
    cells = []
    for one in measured.values():
        found = of(one, feature)
        cells += ["not measured" if found is None else f"{found['missing']:.1%}", *_deltas(found)]
    return _row([f"`{feature.name}`", meaning, shown, *cells])


def of(measured: Mapping[str, Any], feature: Feature) -> Mapping[str, Any] | None:
    """What was measured of a feature on one data set; None: nothing, or of another version."""
    found: Mapping[str, Any] | None = measured["features"].get(feature.name)
    return found if found is not None and found["version"] == feature.version else None


def _columns(measured: Mapping[str, Any]) -> list[str]:
    return [column for name in measured for column in (f"{name}: without it", "default model without it")]


def _deltas(found: Mapping[str, Any] | None) -> list[str]:
    return ["", ""] if found is None else [delta(found["linear"]), delta(found["default_model"])]


def delta(found: Mapping[str, float] | None) -> str:
    """A difference with its interval; bold where it is clear of zero."""
    if found is None:
        return "-"
    told = f"{found['value']:+.4f} ({found['low']:+.4f} to {found['high']:+.4f})"
    return f"**{told}**" if found["low"] > 0 or found["high"] < 0 else told


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _rule(columns: int) -> str:
    return "|" + "---|" * columns
