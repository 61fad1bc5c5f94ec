"""mode's way to say that a service failed (at the end): the public part only says why, never when."""

from __future__ import annotations

import asyncio

from mode import Service


def crashed(service: Service) -> asyncio.Event:
    """Set when a part of the service failed, which takes all of it down; `crash_reason` says why."""
    event: asyncio.Event = service._crashed
    return event
