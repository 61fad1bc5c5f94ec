"""The manifest of a folder of numbers: what it is, and hashes of all of it, so that a change shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


def file_hash(path: Path) -> str:
    """SHA-256 of the file's bytes. Raises OSError."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def manifest_hash(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of the manifest without its own hash; through `files` it covers all numbers."""
    bare = {name: value for name, value in manifest.items() if name != "hash"}
    return hashlib.sha256(json.dumps(bare, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def write_manifest(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Write the manifest with its hash, which is added; returns it. Raises OSError."""
    manifest["hash"] = manifest_hash(manifest)
    text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return manifest
