"""What a request for a page must be (read side, no I/O)."""

from __future__ import annotations

from serving.errors import WrongRequestError
from serving.pages import LIMIT_MAX, PageRequest
from wire.cursor import Cursor
from wire.names import ID_BYTES_MAX, SURFACES
from wire.version import Version


def checked(request: PageRequest) -> Cursor | None:
    """The request's cursor. Raises WrongRequestError, WrongCursorError."""
    check_id("user", request.user)
    if request.topic is not None:
        check_id("topic", request.topic)
    if request.surface not in SURFACES:
        raise WrongRequestError(f"there is no surface {request.surface!r}; choose of {', '.join(SURFACES)}")
    if not 1 <= request.limit <= LIMIT_MAX:
        raise WrongRequestError(f"limit is {request.limit}; choose 1 to {LIMIT_MAX}")
    if request.min_version is not None:
        try:
            Version.parse(request.min_version)
        except ValueError as error:
            raise WrongRequestError(f"min_version: {error}; give the `version` of a page") from error
    if request.cursor is None:
        return None
    return Cursor.decode(request.cursor, request.user, request.surface)


def check_id(what: str, name: str) -> None:
    """Raises WrongRequestError when an id is empty, too long or not UTF-8."""
    try:
        n = len(name.encode())
    except UnicodeEncodeError as error:
        raise WrongRequestError(f"the {what} id is not UTF-8; send it as UTF-8") from error
    if not 1 <= n <= ID_BYTES_MAX:
        raise WrongRequestError(f"the {what} id has {n} bytes; ids have 1 to {ID_BYTES_MAX}")
