"""The file: one row per impression (and, where asked for, per candidate that was not shown), as Parquet.

Columns are listed in docs/models.md. What the file is made of stands in its metadata: the features with
their versions, counts of what was joined and cut, the source.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.labels import SPLITS
from streams.errors import ExitCode, OperatorError
from topologies.model_folder import differences, feature_versions

FORMAT = 2
META = b"feedrank"
PREFIX = "feature."
ROW_GROUP_ROWS = 50_000
ORIGINS = ("rebuilt", "logged")
LABELS = ("weak", "strong", "negative")
_TEXTS = ("user", "item", "author", "topic")
_WHOLE = ("slate", "time_ms", "position", "place", "slate_slots", "slate_pool")

_PLAIN: dict[str, Any] = {
    "slate": pa.int64(),
    "user": pa.string(),
    "item": pa.string(),
    "author": pa.string(),
    "topic": pa.string(),
    "time_ms": pa.int64(),
    "as_of_ms": pa.int64(),
    "shown": pa.bool_(),
    "eligible": pa.bool_(),
    "position": pa.int32(),
    "propensity": pa.float64(),
    "place": pa.int32(),
    "slate_slots": pa.int32(),
    "slate_pool": pa.int32(),
    "sources": pa.int32(),
    "policy": pa.string(),
    "model": pa.string(),
    "weak": pa.int8(),
    "strong": pa.int8(),
    "negative": pa.int8(),
    "value": pa.float64(),
    "dwell_ms": pa.int64(),
    "split": pa.string(),
    "origin": pa.string(),
}


def schema() -> Any:
    """The Arrow schema of a data set."""
    features = [pa.field(PREFIX + name, pa.int32()) for name in feature_versions()]
    return pa.schema([pa.field(name, kind) for name, kind in _PLAIN.items()] + features)


class Writer:
    """Writes a file beside its final name and renames it when all is in; a failed run leaves nothing."""

    def __init__(self, path: Path) -> None:
        self.path, self._part = path, path.with_name(f".{path.name}.part")
        self.rows = 0
        self._held: list[Any] = []
        self._held_rows = 0
        self._writer: Any = None
        self.meta: dict[str, Any] = {}

    def __enter__(self) -> Writer:
        try:
            self._writer = pq.ParquetWriter(self._part, schema(), compression="zstd")
        except OSError as error:
            raise OperatorError(f"{self.path} cannot be written: {error}; choose another path") from error
        return self

    def add(self, columns: Mapping[str, Any], features: NDArray[np.int32]) -> None:
        """k rows: the plain columns by name, features int32[F, k]."""
        planes = [pa.array(plane, pa.int32()) for plane in features]
        plain = [pa.array(columns[name], kind) for name, kind in _PLAIN.items()]
        batch = pa.RecordBatch.from_arrays(plain + planes, schema=schema())
        self._held.append(batch)
        self._held_rows += batch.num_rows
        self.rows += batch.num_rows
        if self._held_rows >= ROW_GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._held:
            self._writer.write_table(pa.Table.from_batches(self._held))
        self._held, self._held_rows = [], 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
            meta = {"format": FORMAT, "features": feature_versions(), "rows": self.rows} | self.meta
            self._writer.add_key_value_metadata({META.decode(): json.dumps(meta)})
        self._writer.close()
        if kind is None:
            os.replace(self._part, self.path)
        else:
            with suppress(OSError):
                self._part.unlink()


@dataclass(frozen=True, slots=True)
class DataSet:
    """n rows of a file, in its order.

    `features` int32[F, n]; `labels` int8[3, n] by LABELS; `slate`, `time_ms`, `position`, `place` (in the
    feed as it was made; -1: not there), `slate_slots`, `slate_pool` (of a drawn slate; 0) int64[n]; `value`,
    `propensity` float64[n] (nan: not drawn); `shown`, `eligible` (no rule drops it) bool[n]; `split` int8[n]
    (places in SPLITS); `user`, `item`, `author`, `topic` (the first; "" = none): object[n] of str. `meta`:
    what the file says of itself.
    """

    path: Path
    features: NDArray[np.int32]
    labels: NDArray[np.int8]
    slate: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    position: NDArray[np.int64]
    value: NDArray[np.float64]
    propensity: NDArray[np.float64]
    shown: NDArray[np.bool_]
    eligible: NDArray[np.bool_]
    split: NDArray[np.int8]
    user: NDArray[Any]
    item: NDArray[Any]
    author: NDArray[Any]
    topic: NDArray[Any]
    place: NDArray[np.int64]
    slate_slots: NDArray[np.int64]
    slate_pool: NDArray[np.int64]
    meta: dict[str, Any]

    def __len__(self) -> int:
        return len(self.slate)

    def where(self, chosen: NDArray[np.bool_]) -> DataSet:
        """Some rows."""
        n = (*_WHOLE, "value", "propensity", "shown", "eligible", "split")
        parts = {name: getattr(self, name)[chosen] for name in (*n, *_TEXTS)}
        return DataSet(self.path, self.features[:, chosen], self.labels[:, chosen], meta=self.meta, **parts)

    def of(self, split: str) -> DataSet:
        """The rows of one split that were shown."""
        return self.where((self.split == SPLITS.index(split)) & self.shown)


def load(path: Path) -> DataSet:
    """Read a data set. Raises OperatorError for what is none, or one of other features."""
    try:
        table = pq.read_table(path)
        stored = pq.read_metadata(path).metadata or {}
    except FileNotFoundError as error:
        raise OperatorError(
            f"{path} is not there; check the path, or make one with `feedrank dataset`", ExitCode.BAD_INPUT
        ) from error
    except (OSError, pa.ArrowInvalid) as error:
        raise OperatorError(
            f"{path} is no data set that can be read ({error}); make one with `feedrank dataset`",
            ExitCode.BAD_INPUT,
        ) from error
    meta = json.loads(stored.get(META, b"{}"))
    _check(path, meta, table.schema)
    names = list(feature_versions())
    n = table.num_rows
    planes = np.empty((len(names), n), np.int32)
    for row, name in zip(planes, names, strict=True):
        column = table.column(PREFIX + name)
        if column.null_count:
            raise OperatorError(
                f"{path}: feature {name} is missing in {column.null_count} rows; make it again with "
                "`feedrank dataset`",
                ExitCode.BAD_INPUT,
            )
        row[:] = column.to_numpy()
    split = np.array([SPLITS.index(one) for one in table.column("split").to_pylist()], np.int8)

    unsure = int((~np.isfinite(table.column("value").to_numpy())).sum())
    if unsure:
        raise OperatorError(
            f"{path}: value is NaN or infinite in {unsure} rows; make it again with `feedrank dataset`",
            ExitCode.BAD_INPUT,
        )

    def numbers(kind: type[Any], *wanted: str) -> dict[str, NDArray[Any]]:
        return {name: table.column(name).to_numpy().astype(kind) for name in wanted}

    return DataSet(
        path,
        planes,
        np.stack([table.column(name).to_numpy() for name in LABELS]).astype(np.int8).reshape(3, n),
        **numbers(np.int64, *_WHOLE),
        **numbers(np.float64, "value", "propensity"),
        shown=table.column("shown").to_numpy(zero_copy_only=False),
        eligible=table.column("eligible").to_numpy(zero_copy_only=False),
        split=split,
        **{name: np.array(table.column(name).to_pylist(), object) for name in _TEXTS},
        meta=meta,
    )


def _check(path: Path, meta: Mapping[str, Any], found: Any) -> None:
    if meta.get("format") != FORMAT:
        what = f"format {meta['format']}" if "format" in meta else "no metadata of feedrank"
        raise OperatorError(
            f"{path} has {what}, not format {FORMAT}; make it again with `feedrank dataset`",
            ExitCode.BAD_INPUT,
        )
    differ = differences(meta["features"], feature_versions())
    wanted = {field.name: field.type for field in schema()}
    problems = differ + [f"column {name} is missing" for name in wanted if name not in found.names]
    problems += [
        f"column {name} is {found.field(name).type}, not {kind}"
        for name, kind in wanted.items()
        if name in found.names and found.field(name).type != kind
    ]
    if problems:
        raise OperatorError(
            f"{path} does not fit this version of feedrank: {'; '.join(problems)}. Make it again with "
            "`feedrank dataset`",
            ExitCode.BAD_INPUT,
        )
