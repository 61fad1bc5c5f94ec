"""What the policy's verbs are to the read side: which one is a read, which ones hide, block or undo (no I/O).

It comes as plain data from whoever read the policy. Roles decide, as they do in the worker; names do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    user's next ranked feed will leave out. `page`: what the page's buttons and its visits send; None: no verb
    does that.
    """

    names: frozenset[str]
    visit: str | None
    undoes: frozenset[str]
    hides: frozenset[str]
    blocks: frozenset[str]
    page: Mapping[str, str | None]

    @classmethod
    def of(cls, declared: Iterable[DeclaredVerb]) -> Verbs:
        """From the policy's verbs, in the policy's order."""
        verbs = tuple(declared)
        undoes = [verb.name for verb in verbs if verb.role == "undo"]
        hides = [verb.name for verb in verbs if verb.role == "negative" and verb.affinity]
        page = {
            "like": _one("like", [verb.name for verb in verbs if verb.role == "strong"]),
            "follow": _one("follow", [verb.name for verb in verbs if verb.graph == "follow"]),
            "hide": _one("hide", hides),
            "undo": _one("undo", undoes),
            "visit": _visit(verbs),
        }
        return cls(
            names=frozenset(verb.name for verb in verbs),
            visit=page["visit"],
            undoes=frozenset(undoes),
            hides=frozenset(hides),
            blocks=frozenset(verb.name for verb in verbs if verb.graph in ("mute", "block")),
            page=page,
        )


def _one(name: str, names: list[str]) -> str | None:
    """`name` where it is one of them, else the first."""
    return name if name in names else next(iter(names), None)


def _visit(verbs: Iterable[DeclaredVerb]) -> str | None:
    """A sign of life that is no action on an item: weak, without value and affinity. `visit` itself, else the
    first that makes the feed due."""
    signs = [verb for verb in verbs if verb.role == "weak" and not verb.value and not verb.affinity]
    return _one(VISIT, [verb.name for verb in signs if verb.makes_due or verb.name == VISIT])
