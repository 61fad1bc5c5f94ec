"""How the visitor can call `feedrank`: the demo's environment need not be on the PATH of their shell."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def feedrank_here() -> str:
    """`feedrank` where a shell finds this very one, else its path, short where it lies below."""
    mine = Path(sys.executable).parent / "feedrank"
    found = shutil.which("feedrank")
    if found is not None and Path(found).resolve() == mine.resolve():
        return "feedrank"
    if not mine.exists():
        return f"{sys.executable} -m feedrank.cli"
    return str(mine.relative_to(Path.cwd()) if mine.is_relative_to(Path.cwd()) else mine)
