"""Cursors: where the next page of a feed goes on. Opaque to clients, the same for every reader.

A cursor is base64url (no padding) of nine fields joined by dots:

    1.<check>.<namespace>.<surface>.<version>.<offset>.<page>.<leg>.<reason>.<source>

`check` is CRC-32 (8 hex digits) of the user's id, a zero byte and everything after the check's dot: it finds
damage and cursors of other users, and protects nothing. `source` comes last as topics may contain dots.

>>> text = Cursor("live", "for_you", "", 0, 1, 1_700_000_000_000, "past_the_end", "global").encode("ann")
>>> Cursor.decode(text, "ann", "for_you").source
'global'
"""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass

from wire.names import SURFACES, Namespace
from wire.version import Version

CURSOR_CHARS_MAX = 512
OFFSET_MAX = 10_000
PAGE_MAX = 10_000
_FORMAT = "1"
_ADVICE = "ask again without a cursor"


class WrongCursorError(ValueError):
    """The cursor can't be used: damaged, made up, of another user or of another surface."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """`version` is the feed version that the page before came from ("": whatever the source holds now),
    `offset` the next index in its entries, `page` the next page's number in this session, `leg` the mark (ms)
    under which this stretch of pages is recorded as served, `reason` why the reader is in a fallback ("" in a
    feed), `source` is "feed", "global" or "topic:<topic>".
    """

    namespace: str
    surface: str
    version: str
    offset: int
    page: int
    leg: int
    reason: str
    source: str

    def encode(self, user: str) -> str:
        """The text that goes to the client."""
        numbers = f"{self.offset}.{self.page}.{self.leg}"
        body = f"{self.namespace}.{self.surface}.{self.version}.{numbers}.{self.reason}.{self.source}"
        text = f"{_FORMAT}.{_check(user, body)}.{body}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str, user: str, surface: str) -> Cursor:
        """Raises WrongCursorError, which says what is wrong and what to do."""
        form, check, body = _opened(text)
        if form != _FORMAT:
            raise WrongCursorError(f"the cursor has format {form!r}, not {_FORMAT!r}; {_ADVICE}")
        if check != _check(user, body):
            raise WrongCursorError(f"the cursor is damaged, or of another user; {_ADVICE}")
        found = _parsed(body)
        if found.surface != surface:
            raise WrongCursorError(
                f"the cursor is of surface {found.surface!r}, not {surface!r}; {_ADVICE}, or name its surface"
            )
        return found


def _check(user: str, body: str) -> str:
    return format(zlib.crc32(b"\0".join((user.encode(), body.encode()))), "08x")


def _opened(text: str) -> tuple[str, str, str]:
    if len(text) > CURSOR_CHARS_MAX:
        raise WrongCursorError(f"the cursor is longer than {CURSOR_CHARS_MAX} characters; {_ADVICE}")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
        form, check, body = raw.split(".", 2)
    except (ValueError, binascii.Error) as error:
        raise WrongCursorError(f"the cursor is not one of ours; {_ADVICE}") from error
    return form, check, body


def _parsed(body: str) -> Cursor:
    """Every field checked: what passes the check sum may still have been made by hand."""
    try:
        namespace, surface, version, *numbers, reason, source = body.split(".", 7)
        offset, page, leg = (int(n) for n in numbers if n.isascii() and n.isdigit())
        Namespace(namespace)
        if version:
            Version.parse(version)
    except ValueError as error:
        raise WrongCursorError(f"the cursor has a field that can't be; {_ADVICE}") from error
    known = surface in SURFACES and (source in ("feed", "global") or source.startswith("topic:"))
    if not known or offset > OFFSET_MAX or page > PAGE_MAX or leg > 2**53:
        raise WrongCursorError(f"the cursor has a field that can't be; {_ADVICE}")
    return Cursor(namespace, surface, version, offset, page, leg, reason, source)
