"""The clients of the demo, and what they received."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

from ...client import Client
from ...message import Message
from .processes import DemoFailed
from .story import CLIENTS, END

LIMIT = 15.0
"""Seconds in which everything that was dispatched has to arrive."""


class Arrival(NamedTuple):
    """A message at a client; `at` is in seconds since 1970."""

    type: str | None
    data: Any
    at: float


class Audience:
    """Clients that note what comes, as it comes.

    Args:
        seats: which server each id connects to.

    Attributes:
        notes: what each id has received so far.
    """

    def __init__(self, seats: Mapping[str, str]) -> None:
        self.seats = seats
        self.notes: dict[str, list[Arrival]] = {id: [] for id in seats}
        self._ends = {id: asyncio.Event() for id in seats}

    async def take_seats(self, open_clients: AsyncExitStack) -> None:
        """Connect and authenticate everybody; `open_clients` closes them."""
        for id, url in self.seats.items():
            client = Client(url)
            client.on_message(partial(self._note, id))
            await open_clients.enter_async_context(client)
            await client.authenticate({"id": id})

    async def received(self) -> Mapping[str, Sequence[Arrival]]:
        """What each id received, in order, once the last message has come to everybody.

        Raises:
            DemoFailed: it did not come.
        """
        try:
            async with asyncio.timeout(LIMIT):
                await asyncio.gather(*(end.wait() for end in self._ends.values()))
        except TimeoutError:
            seen = {id: [arrival.type for arrival in notes] for id, notes in self.notes.items()}
            raise DemoFailed(f"clients: expected every message within {LIMIT:g} s, got {seen}") from None
        return self.notes

    def _note(self, id: str, message: Message) -> None:
        if message.type == END:
            self._ends[id].set()
        else:
            self.notes[id].append(Arrival(message.type, message.data, time.time()))


@asynccontextmanager
async def audience(urls: Sequence[str]) -> AsyncIterator[Audience]:
    """Connect the clients, spread over the servers, for as long as the block lasts."""
    everybody = Audience({id: urls[index % len(urls)] for index, id in enumerate(CLIENTS)})
    async with AsyncExitStack() as open_clients:
        await everybody.take_seats(open_clients)
        yield everybody
