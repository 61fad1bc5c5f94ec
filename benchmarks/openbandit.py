"""Open Bandit: off-policy estimates on logs whose true propensities are known.

* The value of Bernoulli Thompson sampling on the uniform logs: the same digits as obp's estimators. The
  policy is fixed: its 100,000 draws per campaign, by obp 0.5.5 with random state 12345, are
  `data/bernoulli_ts.json`.
* The logged mean of the log that Thompson sampling itself made: it drifts, so there is no goal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.figure import Figure
from benchmarks.place import Place
from benchmarks.quality import data_folder
from feedrank.load.events import Tally
from feedrank.load.openbandit import read
from models.evaluation.bootstrap import mean
from models.evaluation.offpolicy import Value, ips, snips

F64 = NDArray[np.float64]

CAMPAIGNS = ("men", "women")
DRAWS = 100_000
DISTRIBUTION = Path(__file__).parent / "data" / "bernoulli_ts.json"
OBP = {
    ("men", "IPS"): 0.00453356,
    ("men", "SNIPS"): 0.004604232164349611,
    ("women", "IPS"): 0.006813473999999999,
    ("women", "SNIPS"): 0.006810965194592502,
}
"""What obp 0.5.5 says of the same logs and the same distribution."""

SAME = 1e-12


def target(campaign: str) -> F64:
    """float64[items, positions]: how often Thompson sampling shows an item at a position."""
    counts: F64 = np.array(json.loads(DISTRIBUTION.read_text())[campaign]) / DRAWS
    return counts


def estimates(campaign: str) -> dict[str, Value]:
    """IPS and SNIPS of Thompson sampling on the uniform log."""
    rows = list(read(data_folder() / "open_bandit" / f"random_{campaign}.csv.gz", Tally(strict=True)))
    distribution = target(campaign)
    first = min(row.position for row in rows)
    reward = np.array([row.click for row in rows], np.float64)
    wanted = np.array([distribution[row.item, row.position - first] for row in rows])
    logged = np.array([row.propensity for row in rows])
    return {"IPS": ips(reward, wanted, logged), "SNIPS": snips(reward, wanted, logged)}


def run(place: Place) -> Iterator[Figure]:
    """Figures of both campaigns."""
    del place
    for campaign in CAMPAIGNS:
        for name, found in estimates(campaign).items():
            theirs = OBP[campaign, name]
            interval = f"95 % {found.low:.5f} to {found.high:.5f}, effective sample {found.effective:.0f}"
            difference = abs(found.value - theirs)
            yield Figure(
                "openbandit", f"{name} of Bernoulli TS, {campaign}", found.value, "clicks", "obp", theirs,
                note=f"{interval}; differs from obp by {difference:.1g}",
            )  # fmt: skip
            yield Figure(
                "openbandit digits", f"{name}, {campaign}, distance to obp", difference, "clicks",
                goal=SAME, better="lower",
            )  # fmt: skip
        own = list(read(data_folder() / "open_bandit" / f"bts_{campaign}.csv.gz", Tally(strict=True)))
        found_mean = mean(np.array([row.click for row in own], np.float64))
        note = f"95 % {found_mean.low:.5f} to {found_mean.high:.5f}; its policy drifted: no goal"
        yield Figure(
            "openbandit", f"logged mean of Bernoulli TS, {campaign}", found_mean.value, "clicks", note=note
        )
