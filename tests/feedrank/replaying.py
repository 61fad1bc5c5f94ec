"""Replays of files through the command line, for tests."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feedrank import cli
from feedrank.load.events import ItemEvent
from streams.codec.schemas import reader_text
from tests.integration.test_oracle import as_event, told
from tests.oracle.digest import digest
from tests.oracle.made_up import Stream
from tests.shadows import BUNDLED, TICK_MS
from topologies.replay.job_log import FileJobLog

Lines = list[dict[str, Any]]


def digest_told(stream: Stream) -> str:
    """The oracle's digest of what a replay of the whole stream leaves."""
    world = told(map(as_event, stream.events), BUNDLED)  # type: ignore[arg-type]
    return digest(world, world.settled(stream.end_ms, TICK_MS))


def lines_of(stream: Stream) -> Lines:
    """Its lines of `load jsonl` and of replays of files."""
    found = []
    for event in map(as_event, stream.events):  # type: ignore[arg-type]
        kind = "item" if isinstance(event, ItemEvent) else "activity"
        fields = {name: value for name, value in event.record().items() if value is not None}  # type: ignore[union-attr]
        found.append({"type": kind, **fields})
    return found


def written(path: Path, lines: Lines) -> Path:
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def replay(*arguments: str | Path | int, into: str = "june", feeds: str = "files") -> int:
    return cli.run(["replay", *map(str, arguments), "--into", into, "--feeds", feeds])


def digest_of(capsys: pytest.CaptureFixture[str], namespace: str) -> str:
    capsys.readouterr()
    assert cli.run(["digest", namespace]) == 0
    found = re.search(r"^digest (\w{64})$", capsys.readouterr().out, re.M)
    assert found
    return found[1]


def the_job(data: Path) -> Any:
    return list(FileJobLog(data).jobs().values())[-1]


def kinds_of_files(folder: Path, lines: Lines) -> Iterator[tuple[str, list[Path]]]:
    """The same content in every format; Avro and Parquet have a file for items and one for activities."""
    yield "plain", [written(folder / "a.jsonl", lines)]
    yield "gzip", [written(folder / "a.jsonl.gz", lines)]
    for kind in ("avro", "parquet"):
        paths = []
        for what in ("item", "activity"):
            rows = [{k: v for k, v in one.items() if k != "type"} for one in lines if one["type"] == what]
            path = folder / f"{what}.{kind}"
            schema = json.loads(reader_text("item" if what == "item" else "activity"))
            if kind == "avro":
                with path.open("wb") as file:
                    fastavro.writer(file, fastavro.parse_schema(schema), rows)
            else:
                names = dict.fromkeys(name for row in rows for name in row)
                pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), path)
            paths.append(path)
        yield kind, paths
