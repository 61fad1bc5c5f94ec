"""The route as a reader holds it: cached for at most a second (read side, no I/O)."""

from __future__ import annotations

import logging

from serving.stored import Reply
from wire.names import ROUTE_KEY, Namespace
from wire.route import Route, WrongRouteError

ROUTE_CACHE_S = 1.0
READ_ROUTE = ("GET", ROUTE_KEY)

_log = logging.getLogger(__name__)


class Routing:
    """Which namespace a user reads. Without a route in Redis all read `default`.

    A record that is not a route is logged, and the last good one stays in force.
    """

    def __init__(self, default: str) -> None:
        self._default = Namespace(default).name
        self._route: Route | None = None
        self._read_s = float("-inf")

    def outdated(self, now_s: float) -> bool:
        """True when the route has to be read again. `now_s`: monotonic clock."""
        return now_s - self._read_s > ROUTE_CACHE_S

    def learn(self, reply: Reply, now_s: float) -> None:
        """Take the reply of READ_ROUTE."""
        self._read_s = now_s
        try:
            self._route = None if reply is None else Route.decode(_bytes(reply))
        except WrongRouteError as error:
            _log.error("%s; readers stay with the route before it", error)

    @property
    def generation(self) -> int:
        """Of the route; 0 where there is none."""
        return self._route.generation if self._route else 0

    def namespace(self, user: str) -> str:
        """The namespace that `user` reads."""
        return self._route.namespace(user) if self._route else self._default


def _bytes(reply: Reply) -> bytes:
    return reply if isinstance(reply, bytes) else str(reply).encode()
