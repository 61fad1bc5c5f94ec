"""`feedrank embeddings`: item vectors from co-engagement: learn, look, send to the job."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from feedrank.dataset.events import past_of
from feedrank.dataset.topics import items_of, log_of
from feedrank.embedding.make import Publication, live, make, refused
from feedrank.load import jsonl
from feedrank.load.events import Tally
from feedrank.load.send import Sender, encoder
from models.item_columns import EMBEDDING_DIM
from models.learned.embeddings import similar as nearest
from streams.embedding_folder import read_embeddings
from streams.errors import ExitCode, OperatorError
from streams.policy_file import read_policy
from streams.registry import Registry
from streams.settings import Settings
from streams.topics_admin import TopicsAdmin
from topologies.past import Past
from wire.names import ACTIVITIES

app = typer.Typer(help="Item vectors from who engaged with what.")

Folder = Annotated[Path, typer.Argument(help="The folder of the vectors; older ones there are replaced.")]
Previous = Annotated[
    Path | None, typer.Option(help="Vectors in use: new ones are turned onto them, so that interests hold.")
]
Seed = Annotated[int, typer.Option(min=0, help="The same seed and data give the same vectors.")]
PolicyFile = Annotated[Path | None, typer.Option(help="The policy's file; none: FEEDRANK_POLICY.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def topics(
    folder: Folder,
    previous: Previous = None,
    seed: Seed = 1,
    policy: PolicyFile = None,
    as_json: Json = False,
) -> None:
    """Learn from the topics."""
    settings = Settings.load()
    chosen = read_policy(policy or settings.worker.policy)
    past = log_of(settings, chosen.verbs, TopicsAdmin(settings.kafka, settings.names).partitions(ACTIVITIES))
    _made(past, chosen.verbs, folder, previous, seed, "topics", as_json)


@app.command("jsonl")
def from_jsonl(
    file: Annotated[Path, typer.Argument(help="Items and activities, as `feedrank load jsonl` reads them.")],
    folder: Folder,
    previous: Previous = None,
    seed: Seed = 1,
    policy: PolicyFile = None,
    as_json: Json = False,
) -> None:
    """Learn from a file."""
    chosen = read_policy(policy or Settings.load().worker.policy)
    past = past_of(jsonl.events(file, Tally()), chosen.verbs)
    _made(past, chosen.verbs, folder, previous, seed, file.name, as_json)


@app.command()
def similar(
    folder: Annotated[Path, typer.Argument(help="A folder of vectors.")],
    item: Annotated[str, typer.Argument(help="The item's id.")],
    k: Annotated[int, typer.Option("--k", min=1, help="How many.")] = 10,
    as_json: Json = False,
) -> None:
    """Items that are engaged with by the same people."""
    made, _ = read_embeddings(folder)
    if item not in made.ids:
        raise OperatorError(
            f"{folder} has no vector of {item!r}: too few people share it, or it came later; learn again",
            ExitCode.BAD_INPUT,
        )
    found, cosines = nearest(made.vectors.astype(np.float64), np.array([made.ids.index(item)]), k)
    rows = [(made.ids[at], float(c)) for at, c in zip(found[0].tolist(), cosines[0], strict=True) if at >= 0]
    if as_json:
        print(json.dumps([{"item": name, "cosine": round(cosine, 6)} for name, cosine in rows]))
        return
    for name, cosine in rows:
        print(f"{cosine:.3f}  {name}")


@app.command()
def publish(
    folder: Annotated[Path, typer.Argument(help="A folder of vectors.")],
    previous: Annotated[Path | None, typer.Option(help="The vectors that were published before.")] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="In the place of embeddings of any origin; items without a vector lose theirs."
        ),
    ] = False,
) -> None:
    """Send the items again with their vectors: running workers take them over, and the log has them."""
    settings = Settings.load()
    made, _ = read_embeddings(folder)
    before = None if previous is None else read_embeddings(previous)[0]
    publication = Publication(made, live(items_of(settings)))
    own = publication.own(before)
    if own and not replace:
        raise refused(own)
    kafka, form = settings.kafka, settings.worker.format
    auth = kafka.schema_registry_auth
    url = kafka.schema_registry_url
    registry = Registry(url, auth.get_secret_value() if auth else None) if url and form == "avro" else None
    events = publication.events(time.time_ns() // 1_000_000, own)
    for _ in Sender(kafka, encoder(form, registry)).send(events):
        pass
    print(
        f"{publication.sent} items sent with their vectors, {publication.same} had them, "
        f"{publication.without} live items have none"
        + (f", {publication.taken} of them lost one of another origin" if publication.taken else "")
    )


def _made(
    past: Past, verbs: Any, folder: Path, previous: Path | None, seed: int, source: str, as_json: bool
) -> None:
    manifest = make(past, verbs, folder, previous, seed, source)
    if as_json:
        print(json.dumps(manifest, ensure_ascii=False))
        return
    print(f"{folder}: vectors of {manifest['items']} items from {manifest['engagements']} engagements of "
          f"{manifest['people']} people")  # fmt: skip
    for name, value in manifest["metrics"].items():
        print(f"  {name}: {value:.4g}")
    if not manifest["metrics"]:
        print("  not judged: too few people engaged both before and after the last fifth of the time")
    if previous is not None:
        common = manifest["items_turned_onto_the_previous"]
        print(f"  turned onto {previous}: {common} items in both")
        if common < EMBEDDING_DIM:
            print(
                f"  warning: {common} items do not fix {EMBEDDING_DIM} axes: interests will not keep their "
                "meaning; learn from data that share more items"
            )
    sys.stdout.flush()
