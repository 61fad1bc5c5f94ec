"""Heavy steps take turns: one at a time, evenly by time, with rounds for the rest between two of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from itertools import pairwise
from typing import Any, TypeVar

import pytest

from streams.turns import LIGHT_ROUNDS, UPKEEP, Turns
from tests.waiting import GUARD_S

STEP_S = 0.002


T = TypeVar("T")


class Clockwork(asyncio.SelectorEventLoop):
    """A loop whose time passes only in `busy`: shares are those of the steps, not of the machine."""

    now_s = 1_000.0

    def time(self) -> float:
        return self.now_s


def busy(seconds: float) -> None:
    """Hold the loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Clockwork)
    loop.now_s += seconds


def played(scene: Coroutine[Any, Any, T]) -> T:
    """The scene, on a loop of its own."""
    with asyncio.Runner(loop_factory=Clockwork) as runner:
        return runner.run(scene)


async def work(turns: Turns, by: str, steps: int, seconds: float, done: list[str]) -> None:
    for _ in range(steps):
        await turns.take(by)
        busy(seconds)
        done.append(by)


def test_the_loop_turns_for_the_rest_between_two_steps() -> None:
    async def scene() -> list[int]:
        turns, rounds, at = Turns(), 0, list[int]()

        async def light() -> None:
            nonlocal rounds
            while True:
                await asyncio.sleep(0)
                rounds += 1

        async def heavy() -> None:
            for _ in range(4):
                await turns.take("rank")
                at.append(rounds)

        beside = asyncio.create_task(light())
        await asyncio.gather(heavy(), heavy())
        beside.cancel()
        return at

    at = played(scene())
    assert len(at) == 8
    assert all(later - before >= LIGHT_ROUNDS for before, later in pairwise(at))


@pytest.mark.parametrize("weight", [1.0, 4.0])
def test_who_weighs_more_has_less_while_others_wait(weight: float) -> None:
    async def scene() -> list[str]:
        turns, done = Turns(), list[str]()

        async def weighed() -> None:
            for _ in range(40):
                await turns.take("rank", weight)
                busy(STEP_S)
                done.append("rank")

        await asyncio.gather(weighed(), work(turns, "ingest", 40, STEP_S, done))
        return done

    done = played(scene())
    assert done[:40].count("ingest") == pytest.approx(40 * weight / (weight + 1), abs=1)
    assert done.count("rank") == 40


@pytest.mark.parametrize("seconds", [STEP_S, 4 * STEP_S])
def test_time_is_shared_evenly_whatever_the_size_of_steps(seconds: float) -> None:
    async def scene() -> list[str]:
        turns, done = Turns(), list[str]()
        tasks = [
            asyncio.create_task(work(turns, "ingest", 1_000, STEP_S, done)),
            asyncio.create_task(work(turns, "ingest", 1_000, STEP_S, done)),
            asyncio.create_task(work(turns, "rank", 12, seconds, done)),
        ]
        await tasks[2]
        for task in tasks:
            task.cancel()
        return done

    done = played(scene())
    share = done.count("ingest") * STEP_S / (done.count("rank") * seconds)
    assert 0.9 < share < 1.1


def test_nobody_saves_up_while_away_and_nobody_waits_for_one_who_is() -> None:
    async def scene() -> tuple[int, list[str]]:
        turns, done = Turns(), list[str]()
        await work(turns, "ingest", 50, STEP_S, done)
        alone = len(done)
        await asyncio.gather(work(turns, "rank", 10, STEP_S, done), work(turns, "ingest", 10, STEP_S, done))
        return alone, done

    alone, done = played(scene())
    assert alone == 50
    assert "ingest" in done[alone : alone + 4], "ranking has no claim to the time it did not use"


def test_upkeep_comes_last_but_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(waits_s: float) -> list[str]:
        monkeypatch.setattr("streams.turns.UPKEEP_WAIT_S_MAX", waits_s)
        turns, done = Turns(), list[str]()
        await asyncio.gather(
            work(turns, UPKEEP, 3, STEP_S, done),
            work(turns, "ingest", 20, STEP_S, done),
            work(turns, "ingest", 20, STEP_S, done),
        )
        return done

    patient = played(scene(1_000.0))
    assert patient[-3:] == [UPKEEP] * 3
    hurried = played(scene(5 * STEP_S))
    assert UPKEEP in hurried[:20]


def test_a_turn_that_was_given_up_is_passed_over() -> None:
    async def scene() -> list[str]:
        turns, done = Turns(), list[str]()
        given_up = asyncio.create_task(work(turns, "rank", 1, 0.0, done))
        await asyncio.sleep(0)
        given_up.cancel()
        with suppress(asyncio.CancelledError):
            await given_up
        await work(turns, "ingest", 2, 0.0, done)
        return done

    assert played(scene()) == ["ingest", "ingest"]


def test_a_turn_beside_the_loop_lasts_until_it_is_done_and_the_loop_goes_on_meanwhile() -> None:
    async def scene() -> tuple[list[str], int]:
        turns, done, release, rounds = Turns(), list[str](), threading.Event(), 0
        turns.open_thread()

        async def long() -> None:
            await turns.take("rank")
            done.append(await turns.beside(lambda: "ranked" if release.wait(GUARD_S) else "given up"))

        ranking = asyncio.create_task(long())
        ingest = asyncio.create_task(work(turns, "ingest", 1, 0.0, done))
        while rounds < 10 * LIGHT_ROUNDS:
            await asyncio.sleep(0)
            rounds += 1
        assert not done
        release.set()
        await asyncio.gather(ranking, ingest)
        turns.close_thread()
        return done, rounds

    assert played(scene())[0] == ["ranked", "ingest"]


def test_who_is_cancelled_beside_the_loop_keeps_the_turn_until_the_work_is_done() -> None:
    async def scene() -> list[str]:
        turns, done, begun, release = Turns(), list[str](), threading.Event(), threading.Event()
        turns.open_thread()

        def ranked() -> None:
            begun.set()
            assert release.wait(GUARD_S)
            done.append("ranked")
            raise ValueError("nobody hears it")

        async def long() -> None:
            await turns.take("rank")
            await turns.beside(ranked)

        ranking = asyncio.create_task(long())
        while not begun.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0)
        ranking.cancel()
        with suppress(asyncio.CancelledError):
            await ranking
        ingest = asyncio.create_task(work(turns, "ingest", 1, 0.0, done))
        for _ in range(10 * LIGHT_ROUNDS):
            await asyncio.sleep(0)
        assert not done
        release.set()
        await ingest
        turns.close_thread()
        return done

    assert played(scene()) == ["ranked", "ingest"]


def test_an_error_beside_the_loop_is_the_callers_and_the_next_turn_comes() -> None:
    async def scene() -> list[str]:
        turns, done = Turns(), list[str]()
        turns.open_thread()
        await turns.take("rank")
        with pytest.raises(ZeroDivisionError):
            await turns.beside(lambda: 1 // 0)
        await work(turns, "ingest", 1, 0.0, done)
        await asyncio.sleep(0)
        with pytest.raises(AssertionError, match="first await of a turn"):
            await turns.beside(lambda: None)
        turns.close_thread()
        return done

    assert played(scene()) == ["ingest"]
