"""Learned item vectors on disk: a folder like a model's, with a manifest and hashes, never a pickle.

manifest.json           what it is: format, name, data, metrics, hash of the numbers and of itself
vectors.safetensors     fp uint64[n] ascending, vectors float32[n, 64]; ids: UTF-8, one after the other,
                        with their lengths in bytes
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from models.item_columns import EMBEDDING_DIM
from streams.errors import ExitCode, OperatorError
from streams.manifest import MANIFEST, file_hash, manifest_hash, write_manifest
from streams.whole_folder import written_whole

FORMAT = 1
KIND = "embeddings"
VECTORS = "vectors.safetensors"

F32 = NDArray[np.float32]
U64 = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Of n items: `fp` uint64[n] ascending, their `ids`, `vectors` float32[n, 64]."""

    fp: U64
    ids: tuple[str, ...]
    vectors: F32


def write_embeddings(folder: Path, made: Embeddings, about: Mapping[str, Any]) -> dict[str, Any]:
    """Write a folder whole or not at all, in the place of older vectors; returns the manifest.

    Raises OperatorError where the place holds something else, or cannot be written.
    """
    with written_whole(folder, VECTORS, "embeddings") as part:
        names = [one.encode() for one in made.ids]
        numbers = {
            "fp": made.fp,
            "vectors": np.ascontiguousarray(made.vectors),
            "ids": np.frombuffer(b"".join(names), np.uint8),
            "lengths": np.array([len(one) for one in names], np.int64),
        }
        save_file(numbers, part / VECTORS)
        files = {VECTORS: file_hash(part / VECTORS)}
        return write_manifest(part, {"format": FORMAT, "kind": KIND, **about, "files": files})


def read_embeddings(folder: Path) -> tuple[Embeddings, dict[str, Any]]:
    """The vectors and the manifest, all checked.

    Raises OperatorError (bad input): what is missing, changed or broken.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest.get("kind") != KIND or manifest.get("format") != FORMAT:
            raise _bad(folder, f"the manifest is of {manifest.get('kind')} {manifest.get('format')}")
        if manifest["hash"] != manifest_hash(manifest):
            raise _bad(folder, "the manifest was changed: its hash does not fit")
        if manifest["files"][VECTORS] != file_hash(folder / VECTORS):
            raise _bad(folder, f"{VECTORS} is not the file that was written: its hash does not fit")
        numbers = load_file(folder / VECTORS)
        fp, vectors = numbers["fp"], numbers["vectors"]
        ends = numbers["lengths"].cumsum().tolist()
        blob = numbers["ids"].tobytes()
        ids = tuple(blob[a:b].decode() for a, b in pairwise([0, *ends]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise _bad(folder, f"it cannot be read ({type(error).__name__}: {error})") from error
    if (
        vectors.shape != (len(fp), EMBEDDING_DIM)
        or len(ids) != len(fp)
        or (np.diff(fp.view(np.int64) ^ _SIGN) <= 0).any()
    ):
        raise _bad(folder, f"vectors of shape {vectors.shape} for {len(fp)} items, which must be ascending")
    if not np.isfinite(vectors).all():
        raise _bad(folder, "it holds NaN or infinite numbers")
    return Embeddings(fp, ids, vectors), manifest


_SIGN = np.int64(-(1 << 63))


def _bad(folder: Path, problem: str) -> OperatorError:
    return OperatorError(
        f"the embeddings {folder}: {problem}; make them again with `feedrank embeddings`", ExitCode.BAD_INPUT
    )
