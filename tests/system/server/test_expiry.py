"""Logins that end: with 4004, unless the client has authenticated again."""

import time
from typing import Any

import pytest

from mesa_ws import Connection, Message, Server, User
from mesa_ws.transports.run import Endpoint
from tests.system.waiting import until

from .conftest import Joining, Serving
from .peer import Peer

SOON, LATER = 0.3, 1.5
"""Seconds that logins last which nothing has to happen before, and others."""


@pytest.fixture
def server() -> Server:
    """A server whose clients say for how many seconds their login holds."""
    server = Server(sync=True)

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        seconds = data.get("seconds")
        return User(data["id"], expires_at=None if seconds is None else time.time() + seconds)

    @server.on_message
    async def update(message: Message, connection: Connection) -> None:
        ends = None if message.data is None else time.time() + message.data
        connection.update_user(User("1", expires_at=ends))
        connection.send(Message(0, message.data, "UPDATED"))

    return server


@pytest.fixture
async def endpoint(serving: Serving, server: Server) -> Endpoint:
    return await serving(server)


async def log_in(peer: Peer, *, wire2: bool = False, **data: Any) -> dict[str, Any]:
    extension = ', "x": {"v": 2}' if wire2 else ""
    members = ", ".join(f'"{name}": {value}' for name, value in data.items())
    await peer.raw(f'{{"op": 2, "d": {{"id": "1", {members}}}{extension}}}')
    return await peer.until(op=22)


@pytest.mark.parametrize("wire2", [True, False])
async def test_a_login_that_ends_closes_the_connection(
    endpoint: Endpoint, join: Joining, wire2: bool
) -> None:
    peer = await join(endpoint)
    await log_in(peer, wire2=wire2, seconds=SOON)
    assert await peer.closed() == 4004


async def test_only_clients_of_wire_2_hear_when(endpoint: Endpoint, join: Joining) -> None:
    second, first = await join(endpoint), await join(endpoint)
    answer = await log_in(second, wire2=True, seconds=3600.5)
    assert answer["x"]["expires"] in {3599, 3600}
    assert "x" not in await log_in(first, seconds=3600.5)
    assert "expires" not in (await log_in(second, wire2=True, seconds="null"))["x"]


async def test_a_client_that_authenticates_again_stays_and_misses_nothing(
    server: Server, endpoint: Endpoint, join: Joining
) -> None:
    peer = await join(endpoint)
    await log_in(peer, wire2=True, seconds=LATER)
    end = time.time() + LATER
    await server.send(Message(0, 1), ["1"])
    again = await log_in(peer, wire2=True, seconds=60)
    assert (again["x"]["status"], again["x"]["lost"]) == ("resumed", 0)
    await until(lambda: time.time() > end)
    await server.send(Message(0, 2), ["1"])
    await peer.until(d=2)
    assert [frame["d"] for frame in peer.frames if frame["op"] == 0] == [1, 2]


async def test_update_user_moves_the_end(endpoint: Endpoint, join: Joining) -> None:
    kept, ended = await join(endpoint), await join(endpoint)
    await log_in(kept, seconds=LATER)
    await log_in(ended, seconds=60)
    for peer, seconds in ((kept, None), (ended, 1.2 * LATER)):
        await peer.send("UPDATE", seconds)
        await peer.until(t="UPDATED")
    assert await ended.closed() == 4004
    await kept.send("UPDATE", None)
    await kept.until(t="UPDATED")


async def test_a_user_of_the_past_is_refused(endpoint: Endpoint, join: Joining) -> None:
    peer = await join(endpoint)
    await peer.raw('{"op": 2, "d": {"id": "1", "seconds": -1}}')
    assert await peer.closed() == 1008


@pytest.mark.parametrize("ends", ["soon", True, float("nan"), float("inf")])
def test_an_end_has_to_be_a_number(ends: Any) -> None:
    with pytest.raises(ValueError, match="expires_at: expected seconds since 1970 as a number"):
        User("1", expires_at=ends)
