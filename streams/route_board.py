"""The route in Redis as operators change it: promote, rollback, canary. Readers follow within a second.

    with RouteBoard(settings.redis, default="live") as board:
        before, after = board.change(lambda route: promoted(route, "next", now_ms, "ann"))

The record is replaced in one step, and only by a newer one: of two operators at once, one is told.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from redis.exceptions import NoScriptError

from streams.concerns import RedisSettings
from streams.errors import ExitCode, OperatorError
from streams.redis_block import RedisBlock
from wire.names import ROUTE_KEY, Namespace
from wire.route import Change, Route, Split, WrongRouteError
from wire.scripts import ROUTE

SCAN_COUNT = 5_000
FIRST = "nobody had set a route"
ROLLBACK = "rollback"


class RouteBoard(RedisBlock):
    """`default`: the namespace that readers follow where there is no route yet."""

    def __init__(self, settings: RedisSettings, default: str) -> None:
        super().__init__(settings)
        self._default = default

    def read(self) -> Route:
        """The route; without one, version 0 of the default. Raises OperatorError for a damaged record."""
        record = self._redis.get(ROUTE_KEY)
        if record is None:
            first = Change(0, self._default, (), 0, "", FIRST)
            return Route(0, 1, self._default, (), (first,))
        try:
            return Route.decode(record)
        except WrongRouteError as error:
            raise OperatorError(
                f"{error}. Readers stay with the route before it; `redis-cli DEL {ROUTE_KEY}` sends them to "
                f"{self._default}",
                ExitCode.BAD_INPUT,
            ) from error

    def change(self, change: Callable[[Route], Route]) -> tuple[Route, Route]:
        """Replace the route by what `change` makes of it; returns both.

        Raises OperatorError when somebody else replaced it meanwhile.
        """
        before = self.read()
        after = change(before)
        arguments = (1, ROUTE_KEY, after.version, after.generation, after.encode())
        try:
            written, stored = self._redis.evalsha(ROUTE.sha, *arguments)
        except NoScriptError:
            written, stored = self._redis.eval(ROUTE.text, *arguments)
        if not written:
            other = Route.decode(stored)
            what = f"{other.history[-1].action} by {other.history[-1].by}" if other.history else "a change"
            raise OperatorError(
                f"the route was changed meanwhile ({what}, version {other.version}); nothing is done: look "
                "at `feedrank route show` and decide again",
                ExitCode.NOT_READY,
            )
        return before, after

    def feeds(self, names: Namespace, surface: str) -> int:
        """How many heads a namespace has on a surface. Walks all keys."""
        pattern = names.feed(surface, "*")
        return sum(1 for _ in self._redis.scan_iter(match=pattern, count=SCAN_COUNT))


def promoted(route: Route, namespace: str, at_ms: int, by: str) -> Route:
    """Everybody reads `namespace`. Raises OperatorError when they do already."""
    if (route.default, route.splits) == (namespace, ()):
        raise OperatorError(f"everybody reads {namespace} already; nothing is done")
    return route.changed(namespace, (), at_ms, by, "promote")


def rolled_back(route: Route, at_ms: int, by: str, again: bool = False) -> Route:
    """What the route was before its last change. `again`: also where that was a rollback, to undo it.

    Raises OperatorError when nothing is known of before, or the last change was a rollback: of two operators
    at once the second would undo what the first has done, and who wants to go further back would go forward.
    """
    if len(route.history) < 2:
        raise OperatorError(
            "the route's history knows nothing of before; name the namespace: `feedrank promote NAMESPACE`"
        )
    before, last = route.history[-2:]
    if last.action == ROLLBACK and not again:
        at = datetime.fromtimestamp(last.at_ms / 1_000, UTC).isoformat(timespec="seconds")
        raise OperatorError(
            f"{last.by} has rolled back already, at {at}: readers follow {route.default}. "
            "`feedrank promote NAMESPACE` sends them elsewhere; `feedrank rollback --again` undoes it",
            ExitCode.NOT_READY,
        )
    return route.changed(before.default, before.splits, at_ms, by, ROLLBACK)


def canary(route: Route, split: Split, at_ms: int, by: str) -> Route:
    """`split` replaces the one of its namespace; a share of 0 only takes that away.

    Raises OperatorError for a share that does not fit.
    """
    others = tuple(one for one in route.splits if one.namespace != split.namespace)
    splits = (*others, split) if split.share else others
    try:
        return route.changed(route.default, splits, at_ms, by, "canary")
    except WrongRouteError as error:
        raise OperatorError(str(error)) from error
