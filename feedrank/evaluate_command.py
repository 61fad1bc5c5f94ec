"""`feedrank evaluate DATA`: models beside each other on the same slates, with intervals and paired gains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from feedrank.dataset.table import load
from feedrank.evaluation import slates
from feedrank.evaluation.measure import AnyScorer, compare, scored
from feedrank.evaluation.offline import answers
from feedrank.evaluation.page import html
from feedrank.evaluation.report import document, text
from models.labels import SPLITS
from models.score import RateLift
from streams.errors import OperatorError
from streams.policy_file import read_policy
from streams.settings import Settings
from topologies.model_folder import read_model

DEFAULT = "default"

Data = Annotated[Path, typer.Argument(help="A Parquet file of `feedrank dataset`.")]
Models = Annotated[
    list[Path] | None,
    typer.Option("--model", help="A model's folder; may be repeated. The default model is always there."),
]


def evaluate(
    data: Data,
    model: Models = None,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    k: Annotated[int, typer.Option("--k", min=1, help="How far down lists are looked at.")] = 10,
    policy: Annotated[Path | None, typer.Option(help="The policy; none: FEEDRANK_POLICY.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 1,
    html_file: Annotated[Path | None, typer.Option("--html", help="Also write one page with plots.")] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Evaluate models on a data set."""
    if split not in SPLITS[:3]:
        raise OperatorError(f"--split is {split!r}; choose one of {', '.join(SPLITS[:3])}")
    chosen = read_policy(policy or Settings.load().worker.policy)
    scorers: dict[str, AnyScorer] = {DEFAULT: RateLift(chosen)}
    for folder in model or ():
        learned = read_model(folder, chosen)
        scorers[learned.name] = learned
    rows = load(data)
    found = compare(rows, split, scorers, k)
    found.seed = seed
    off_policy = {}
    for name, scorer in scorers.items():
        scores = scored(scorer, rows.features)[0]
        # a score is the policy's value of what is predicted: in the units of `value`
        off_policy[name] = answers(rows, split, scores, scores / float(1 << 24))
        off_policy[name] += slates.answers(rows, split, chosen, scores, scores / float(1 << 24))
    about = {"data": data.name, "split": split, "k": k, "policy": chosen.version, "seed": seed}
    page = document(found, off_policy, about)
    if html_file is not None:
        _write(html_file, html(page))
    print(json.dumps(page, ensure_ascii=False, allow_nan=False) if json_lines else "\n".join(text(page)))


def _write(path: Path, content: str) -> None:
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise OperatorError(f"{path} cannot be written: {error}; choose another path") from error
