"""A file of items and activities for commands that replay it: seeded, a few days, everybody acts."""

from __future__ import annotations

import json
import random
from importlib.resources import files
from pathlib import Path

BEGIN_MS = 1_767_254_400_000
HOUR_MS = 3_600_000
TOPICS = ("tea", "bread", "chess", "rain", "moss")


def write_people(path: Path, users: int = 40, items: int = 120, acts: int = 2_500, seed: int = 3) -> None:
    """JSON lines as `feedrank load jsonl` reads them."""
    rng = random.Random(seed)
    lines: list[dict[str, object]] = []
    for number in range(items):
        topics = rng.sample(TOPICS, 2)
        created = BEGIN_MS + rng.randrange(48) * HOUR_MS
        lines.append(
            {"type": "item", "item_id": f"i{number:03d}", "author": f"a{number % 17}", "created_at": created,
             "topics": topics, "title": f"On {topics[0]} and {topics[1]}, part {number}"}
        )  # fmt: skip
    at = BEGIN_MS + 48 * HOUR_MS
    for number in range(acts):
        at += rng.randrange(1, 90_000)
        user, item = f"u{rng.randrange(users):02d}", rng.randrange(items)
        verb = rng.choices(["impression", "click", "like", "share", "hide"], [50, 20, 20, 5, 5])[0]
        lines.append(
            {"type": "activity", "actor": user, "verb": verb, "object": f"i{item:03d}", "event_time": at,
             "activity_id": f"e{number}", "position": rng.randrange(20)}
        )  # fmt: skip
        if number % 40 == 0:
            lines.append(
                {"type": "activity", "actor": user, "verb": "follow", "object": f"a{rng.randrange(17)}",
                 "event_time": at, "activity_id": f"f{number}", "target": "author"}
            )  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_policy(path: Path, *changes: tuple[str, str]) -> None:
    """The bundled policy with some texts replaced; each must be there."""
    text = files("models").joinpath("default_policy.toml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
