"""Limits of what comes in, each with its unit last (flow steps 1 and 5). docs/wire.md states all of them."""

from __future__ import annotations

from wire.names import ID_BYTES_MAX

__all__ = ["ID_BYTES_MAX"]

ACTIVITY_BYTES_MAX = 16_384
"""A larger activity is a dead letter: the largest one of the bundled schema has about 1,000 bytes."""
ITEM_BYTES_MAX = 65_536

EVENT_TIME_MS_MIN = 631_152_000_000
"""1990-01-01T00:00:00Z. Earlier times are unset clocks, or seconds where milliseconds belong."""
EVENT_TIME_MS_MAX = 4_102_444_800_000
"""2100-01-01T00:00:00Z: rows hold seconds in 32 bits and days in 16."""
CLOCK_AHEAD_MS_MAX = 300_000
"""How far event_time may lie after Kafka's record timestamp: one phone cannot move time."""

DWELL_MS_MAX = 86_400_000
POSITION_MAX = 32_767

ITEM_TOPICS_MAX = 4
"""Topics that are kept of an item; further ones are ignored."""
EMBEDDING_DIMENSIONS_MAX = 64
TITLE_CHARS_MAX = 200
"""A longer title is cut: it is shown, never ranked by."""

DEAD_LETTER_BYTES_MAX = 900_000
"""A larger value is cut in its dead letter (and says so): it must never be too large to set aside."""
MESSAGE_CHARS_MAX = 500
"""Of the message in a dead letter's header."""
