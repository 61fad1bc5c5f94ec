"""A reader written from docs/reading.md alone, with plain commands: it shares sessions with ours."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
import redis

from serving.reader import FeedReader
from tests.services import ROOT
from tests.serving.feed_store import FeedStore, entry

DOCS = Path(ROOT, "docs", "reading.md").read_text(encoding="utf-8")
META = ["version", "generated_at", "stale_after", "policy", "model", "count", "topics"]


class Stranger:
    """Heads and snapshots only; what the page says of fallbacks is tested with our own reader."""

    def __init__(self, url: str, namespace: str) -> None:
        self.redis: Any = redis.Redis.from_url(url, decode_responses=True)
        self.ns = namespace

    def check(self, user: str, body: str) -> str:
        return f"{zlib.crc32(user.encode() + bytes(1) + body.encode()):08x}"

    def encode(self, user: str, body: str) -> str:
        return base64.urlsafe_b64encode(f"1.{self.check(user, body)}.{body}".encode()).decode().rstrip("=")

    def page(self, user: str, limit: int, cursor: str | None = None) -> tuple[list[str], str]:
        tag = f"{self.ns}:for_you:{{{user}}}"
        offset, number, leg, version = 0, 0, 0, None
        if cursor:
            body = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().split(".", 2)[2]
            _, _, version, *numbers = body.split(".")[:6]
            offset, number, leg = map(int, numbers)
        chunks = [f"p{i}" for i in range(20)]
        with self.redis.pipeline(transaction=True) as pipe:
            pipe.zrange(f"hidden:{{{user}}}", 0, -1)
            pipe.zrange(f"served:{tag}", 0, -1, withscores=True)
            if cursor:
                pipe.expire(f"pin:{tag}", 900)
            else:
                pipe.set(f"pin:{tag}", 1, ex=900)
            pipe.hmget(f"feed:{tag}", [*META, *chunks])
            pipe.hmget(f"feed:{tag}:{version}", [*META, *chunks])
            hidden, served, _, head, snapshot = pipe.execute()
        fields = head if version in (None, head[0]) else snapshot
        served = dict(served)
        leg = leg or max(int(time.time() * 1_000), *(int(s) + 1 for s in [0, *served.values()]))
        entries = [e for chunk in fields[len(META) :] if chunk for e in json.loads(chunk)]
        shown = []
        for e in entries[offset:]:
            if len(shown) == limit:
                break
            offset += 1
            if f"item:{e['id']}" not in hidden and served.get(e["id"], leg) >= leg:
                shown.append(e["id"])
        self.redis.zadd(f"served:{tag}", dict.fromkeys(shown, leg), gt=True)
        body = f"{self.ns}.for_you.{fields[0]}.{offset}.{number + 1}.{leg}..feed"
        return shown, self.encode(user, body)


@pytest.fixture
def store(redis_url: str, namespace: str) -> FeedStore:
    return FeedStore(redis_url, namespace)


def test_sessions_go_from_one_reader_to_the_other_and_back(
    store: FeedStore, redis_url: str, namespace: str
) -> None:
    user = f"user {namespace}"
    now_ms = time.time_ns() // 1_000_000
    store.write(user, 1, [entry(f"i{i}") for i in range(100)], now_ms)
    ours, stranger = FeedReader.from_url(redis_url, namespace=namespace), Stranger(redis_url, namespace)
    ours.hide(user, "item", "i5")
    first, cursor = stranger.page(user, 10)
    store.write(user, 2, [entry("other")], now_ms)
    second = ours.page(user, limit=10, cursor=cursor)
    assert second.cursor is not None
    third, cursor = stranger.page(user, 10, second.cursor)
    fourth = ours.page(user, limit=10, cursor=cursor)
    ids = [*first, *(e.id for e in second.entries), *third, *(e.id for e in fourth.entries)]
    assert ids == [f"i{i}" for i in range(41) if i != 5]
    assert (fourth.page, fourth.restarted) == (3, False)
    assert stranger.page(user, 10)[0] == ["other"], "a new session filters what both have served"
    ours.close()


def test_the_examples_of_the_page_are_true() -> None:
    body = "live.for_you..0.1.1700000000000.past_the_end.global"
    assert f".{body}`" in DOCS
    assert Stranger("redis://localhost", "live").encode("ann", body) in DOCS
    digest = hashlib.sha256(b"june:ann").hexdigest()
    assert f"begins with `{digest[:8]}`" in DOCS
    assert f"is {int(digest[:8], 16) / 2**32:.6f}" in DOCS


def test_the_page_names_every_field_of_an_answer() -> None:
    from dataclasses import fields

    from serving.pages import Dropped, FeedEntry, FeedPage

    example = re.findall(r"```json\n(\{\n.*?\n\})\n```", DOCS, re.DOTALL)[0]
    page = json.loads(example)
    assert list(page) == [f.name for f in fields(FeedPage)]
    assert list(page["entries"][0]) == [f.name for f in fields(FeedEntry)]
    assert list(page["dropped"][0]) == [f.name for f in fields(Dropped)]
