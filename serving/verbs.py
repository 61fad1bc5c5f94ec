"""What the policy's verbs are to the read side: which one is a read, which ones hide, block or undo (no I/O).

It comes as plain data from whoever read the policy. Roles decide, as they do in the worker; names do not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Role = Literal["exposure", "weak", "strong", "negative", "graph", "undo"]
GraphAct = Literal["follow", "mute", "block"]

VISIT = "visit"
"""The verb of a read where several would do."""


@dataclass(frozen=True, slots=True)
class DeclaredVerb:
    """One verb of the policy. `value`, `affinity`, `makes_due`: as docs/policy.md has them; `graph`: of role
    graph."""

    name: str
    role: Role
    graph: GraphAct | None = None
    value: float = 0.0
    affinity: int = 0
    makes_due: bool = False


@dataclass(frozen=True, slots=True)
class Verbs:
    """`names`: all that are declared. `visit`: what a read of the feed is told with; None: nothing can.

    `undoes` withdraw another activity. `hides` hide their item, `blocks` their author or topic: what the
    user's next ranked feed will leave out.
    """

    names: frozenset[str]
    visit: str | None
    undoes: frozenset[str]
    hides: frozenset[str]
    blocks: frozenset[str]

    @classmethod
    def of(cls, declared: Iterable[DeclaredVerb]) -> Verbs:
        """From the policy's verbs, in the policy's order."""
        verbs = tuple(declared)
        return cls(
            names=frozenset(verb.name for verb in verbs),
            visit=_visit(verbs),
            undoes=frozenset(verb.name for verb in verbs if verb.role == "undo"),
            hides=frozenset(verb.name for verb in verbs if verb.role == "negative" and verb.affinity),
            blocks=frozenset(verb.name for verb in verbs if verb.graph in ("mute", "block")),
        )


def _visit(verbs: Iterable[DeclaredVerb]) -> str | None:
    """A sign of life that is no action on an item: weak, without value and affinity. `visit` itself, else the
    first that makes the feed due."""
    signs = [verb for verb in verbs if verb.role == "weak" and not verb.value and not verb.affinity]
    if any(verb.name == VISIT for verb in signs):
        return VISIT
    return next((verb.name for verb in signs if verb.makes_due), None)
