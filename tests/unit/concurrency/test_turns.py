"""Time that work takes in one turn of the event loop."""

import asyncio

import pytest

from mesa_ws.concurrency.turns import TURN, Turn


async def test_a_turn_is_over_for_all_tasks_together(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("mesa_ws.concurrency.turns.monotonic", lambda: now)
    turn, steps = Turn(), list[tuple[int, str]]()

    async def work(name: str) -> None:
        nonlocal now
        for _ in range(4):
            now += TURN / 2
            steps.append((loop_turn, name))
            if turn.is_over():
                await asyncio.sleep(0)

    loop_turn = 0
    works = [asyncio.ensure_future(work(name)) for name in "ab"]
    while not all(each.done() for each in works):
        loop_turn += 1
        await asyncio.sleep(0)
    assert ["".join(name for at, name in steps if at == n) for n in (1, 2, 3)] == ["aaab", "abb", "b"]


async def test_waiting_begins_another_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("mesa_ws.concurrency.turns.monotonic", lambda: now)
    turn = Turn()
    assert not turn.is_over()
    await asyncio.sleep(0)
    now += 10 * TURN
    assert not turn.is_over()
    now += TURN
    assert turn.is_over()
