"""Deadlines of many owners share one timer."""

import asyncio
from unittest.mock import patch

from mesa_ws.concurrency import deadlines
from mesa_ws.concurrency.deadlines import Deadlines


class Owner:
    """Notes its ticks, in order with those of the others, and the turn of the event loop."""

    def __init__(self, met: list["Owner"]) -> None:
        self._met = met
        self.turn = 0

    def tick(self) -> None:
        self._met.append(self)
        self.turn = turns[0]


turns = [0]


async def count_turns() -> None:
    while True:
        turns[0] += 1
        await asyncio.sleep(0)


async def test_deadlines_are_met_once_in_order_and_not_before_their_time() -> None:
    met: list[Owner] = []
    early, late, dropped, next_one = owners = [Owner(met) for _ in range(4)]
    clock = asyncio.get_running_loop().time
    with patch.object(deadlines, "WIDTH", 0.001):
        all_of_them, now = Deadlines(), clock()
        all_of_them.put(late, now + 0.02)
        all_of_them.put(early, now + 0.01)
        all_of_them.drop(dropped, all_of_them.put(dropped, now + 0.01))
        while late not in met:
            await asyncio.sleep(0.001)
        assert clock() > now + 0.02
        slot = all_of_them.put(next_one, now)
        while next_one not in met:
            await asyncio.sleep(0.001)
        all_of_them.drop(next_one, slot)
        assert met == [early, late, next_one]
        all_of_them.put(early, clock() + 0.001)
        all_of_them.close()
        await asyncio.sleep(0.01)
        assert met == [early, late, next_one]
        assert owners[2].turn == 0


async def test_very_many_leave_turns_to_others() -> None:
    met: list[Owner] = []
    owners = [Owner(met) for _ in range(20)]
    counting = asyncio.create_task(count_turns())
    with patch.object(deadlines, "TURN", 0.0):
        all_of_them = Deadlines()
        for owner in owners:
            all_of_them.put(owner, 0.0)
        while len(met) < 20:
            await asyncio.sleep(0)
    counting.cancel()
    assert len({owner.turn for owner in owners}) == 20
