"""All benchmarks by name, in the order of the table. Each yields its figures as it gets them."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.figure import from_line
from benchmarks.place import Place
from benchmarks.worker import source_path
from tests.services import ROOT

Fields = dict[str, object]
Benchmark = Callable[[Place], Iterator[Fields]]
SCRIPT_S_MAX = 900.0

MEANING = {
    "ingest": "activities per CPU-second, beside Kafka Streams, Quix Streams and ordinary Faust",
    "decode": "bytes to columns, Avro and JSON, per activity",
    "rows": "columns to rows, seen pages and item deltas, per activity",
    "index": "item index and candidates, per item and user",
    "rank": "feeds per second of one core, beside a per-user implementation with pandas",
    "models": "feeds per second of one core for the default, linear and tree models, and CPU per slice",
    "freshness": "from an activity to its feed in Redis, at half the sustained rate and mixed",
    "memory": "bytes per active user, item and follow edge",
    "closedloop": "click-through of simulated people beside chronological, popularity and an oracle",
    "coldstart": "what ranking does for new people and new items of the closed loop",
    "replay": "activities per CPU-second of a replay, beside the live worker on the same topic",
    "ranklens": "NDCG@10 on the public learning-to-rank set, beside click-through so far and Metarank",
    "uboot": "who touches which change next: recall@20 and MRR, beside tuned affinity baselines",
    "openbandit": "off-policy estimates on logs with true propensities, beside obp",
    "trainedloop": "closed loop with models trained on the job's own served log",
    "fencing": "what transactional checkpoints cost: the same worker with and without, paired",
    "recovery": "changelog rows per CPU-second until ready, beside Kafka Streams; warm restart",
}
"""Name -> what it measures. Those with a module function `run` take a Place; the others are scripts that
print JSON lines."""
SCRIPTS = ("decode", "rows", "index", "rank", "models")


def find(name: str) -> Benchmark:
    """The benchmark of that name; imports only its module."""
    if name in SCRIPTS:
        return partial(_script, name)
    return partial(_module, name)


def _module(name: str, place: Place) -> Iterator[Fields]:
    for figure in importlib.import_module(f"benchmarks.{name}").run(place):
        yield figure.fields()


def _script(name: str, place: Place) -> Iterator[Fields]:
    """Run benchmarks/<name>.py in a process of its own.

    Raises RuntimeError when it fails, ModuleNotFoundError where it needs a package that is not here.
    """
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    done = subprocess.run(
        command, cwd=ROOT, env=source_environment(), capture_output=True, text=True, timeout=SCRIPT_S_MAX
    )
    if done.returncode:
        missing = re.search(r"ModuleNotFoundError: No module named '([^'.]+)", done.stderr)
        if missing:
            raise ModuleNotFoundError(missing[0], name=missing[1])
        raise RuntimeError(
            f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-1_500:].strip()}"
        )
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            yield from_line(line)


def source_environment() -> dict[str, str]:
    """The environment of this process, with this checkout importable."""
    import os

    return dict(os.environ) | source_path()


def as_line(fields: Fields) -> str:
    """One JSON object on one line."""
    return json.dumps(fields, ensure_ascii=False)
