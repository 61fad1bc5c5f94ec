"""`feedrank` whose workers do not fence each other: every process has transactional ids of its own.

The zombie has to be noticed with it, else it shows nothing.
"""

from __future__ import annotations

import os

from feedrank.cli import main
from wire.names import Namespace

_real = Namespace.transactional_id


def _own(names: Namespace, topic: str, partition: int) -> str:
    return f"{_real(names, topic, partition)}.{os.getpid()}"


if __name__ == "__main__":
    Namespace.transactional_id = _own  # type: ignore[method-assign, assignment]
    main()
