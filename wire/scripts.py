"""The Lua scripts that run inside Redis (11), and the digests they are called by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """`text` is loaded once per server (SCRIPT LOAD), `sha` is what EVALSHA takes."""

    text: str
    sha: str


def _script(name: str) -> Script:
    text = files("wire").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
    return Script(text, hashlib.sha1(text.encode()).hexdigest())


FENCE = _script("fence")
ROUTE = _script("route")
