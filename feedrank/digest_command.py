"""`feedrank digest NS`: one hash over rows, item statistics and settled feeds of a namespace."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.data_dir import claimed
from streams.errors import OperatorError
from streams.settings import Settings
from topologies.digest import Digest
from topologies.digest_sources import (
    digest_changelog,
    digest_directory,
    digest_feed_stores,
    digest_heads,
)
from topologies.replay.shadow import END_OF_DATA, Shadow
from wire.names import Namespace

Name = Annotated[str, typer.Argument(metavar="NAMESPACE")]
AsOf = Annotated[
    int | None, typer.Option(help="When the feeds were settled, ms; default: the newest in Redis.")
]
Rows = Annotated[
    str,
    typer.Option(help="Where rows are read: topics, disk (no worker may have it open), or auto: disk for "
                 "shadows, topics else."),
]  # fmt: skip


def digest(namespace: Name, as_of_ms: AsOf = None, rows: Rows = "auto") -> None:
    """One hash over rows, item statistics and settled feeds."""
    settings = Settings.load()
    try:
        names = Namespace(namespace)
    except ValueError as error:
        raise OperatorError(str(error)) from error
    shadow = Shadow.of(settings.worker.data_dir, names)
    found = _on_disk(shadow, names) if _reads_disk(shadow, rows) else _in_topics(settings, names)
    one = shadow.definition() if shadow.exists else None
    if one is not None and one.sink != "redis":
        found.as_of_ms, found.feeds = one.as_of_ms, digest_feed_stores(shadow.directory)
    else:
        if one is not None and one.as_of_ms != END_OF_DATA:
            as_of_ms = as_of_ms or one.as_of_ms
        found.as_of_ms, found.feeds = digest_heads(settings.redis, names, as_of_ms)
    print(found.text(), end="")
    print(f"as_of {found.as_of_ms}")
    print(f"digest {found.hash()}")


def _reads_disk(shadow: Shadow, rows: str) -> bool:
    if rows not in ("auto", "topics", "disk"):
        raise OperatorError(f"--rows {rows}: write auto, topics or disk")
    return rows == "disk" or (rows == "auto" and shadow.exists)


def _on_disk(shadow: Shadow, names: Namespace) -> Digest:
    if not shadow.directory.is_dir():
        raise OperatorError(
            f"namespace {names.name} has no rows in {shadow.directory}; correct the name or "
            "FEEDRANK_DATA_DIR, or read them from topics (--rows topics)"
        )
    with claimed(shadow.directory):
        found = digest_directory(shadow.directory)
    if found is None:
        raise OperatorError(f"{shadow.directory} holds no rows; was its replay ever begun?")
    return found


def _in_topics(settings: Settings, names: Namespace) -> Digest:
    kafka = settings.kafka
    return Digest(
        0, digest_changelog(kafka, names.users_changelog), digest_changelog(kafka, names.item_rows_changelog)
    )
