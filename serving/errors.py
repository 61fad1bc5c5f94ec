"""What can go wrong when a feed is read.

FeedError
├── WrongRequestError       the caller's fault: surface, limit, ids  (wire.cursor.WrongCursorError is a
│                           ValueError of its own, with the same meaning)
├── OlderThanAskedError     Redis holds an older feed than the `min_version` asked for
└── FeedsUnavailableError   Redis does not answer; try again
"""

from __future__ import annotations


class FeedError(Exception):
    """Root of the read side's errors; `message` says what happened and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class WrongRequestError(FeedError, ValueError):
    """The request can't be answered as it is."""


class OlderThanAskedError(FeedError):
    """`version` is what Redis holds, None for nothing."""

    def __init__(self, version: str | None, min_version: str) -> None:
        super().__init__(
            f"Redis holds version {version or 'none'} of the feed, older than the {min_version} asked for; "
            'try again later, or ask with older="fallback"'
        )
        self.version = version


class FeedsUnavailableError(FeedError):
    """Redis does not answer, or not in time."""
