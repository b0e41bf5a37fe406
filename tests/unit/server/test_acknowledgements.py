"""Acknowledgements of very many clients are asked for and passed on in several turns of the event loop."""

import asyncio
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

from mesa_ws.backend.outbox import Acknowledgement
from mesa_ws.server import acknowledgements
from mesa_ws.server.acknowledgements import Acknowledgements


class Cursor:
    epoch, acked = "e", 7


class Subscriber:
    """Stands for a connection and its subscription; counts the probes that it gets."""

    is_open = settles = is_started = is_watched = True
    outbox = Cursor()

    def __init__(self, id: str) -> None:
        self.id = id
        self.subscription = self
        self.probes = 0

    def probe(self) -> bool:
        self.probes += 1
        return False


class Passed:
    """Keeps what is passed on to the backend, one list of ids for each call."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, each: Sequence[Acknowledgement]) -> None:
        self.calls.append([one.id for one in each])


IDS = ["1", "2", "3", "4", "5"]


async def test_clients_are_asked_and_passed_on_some_in_a_turn() -> None:
    subscribers: dict[str, Any] = {id: Subscriber(id) for id in IDS}
    passed = Passed()
    of_id = {id: [each] for id, each in subscribers.items()}
    with patch.multiple(acknowledgements, AT_ONCE=2, FLUSH=0.0, ROUND=0.0):
        collected = Acknowledgements(of_id, passed, is_prompt=False)
        for each in subscribers.values():
            collected.watch(each)
            collected.acked(each)
        asked: list[int] = []
        while len(passed.calls) < 3 or sum(each.probes for each in subscribers.values()) < 5:
            before = sum(each.probes for each in subscribers.values())
            await asyncio.sleep(0)
            asked.append(sum(each.probes for each in subscribers.values()) - before)
        assert (passed.calls, sum(asked), max(asked)) == ([IDS[:2], IDS[2:4], IDS[4:]], 5, 2)
        assert not any(each.is_watched for each in subscribers.values())
        for each in subscribers.values():
            collected.acked(each)
        collected.left("2")
        await collected.flush_all()
        assert [len(call) for call in passed.calls[3:]] == [2, 2, 1]
        collected.acked(subscribers["1"])
        collected.close()
        assert passed.calls[6:] == [["1"]]
