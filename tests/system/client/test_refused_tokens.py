"""A refused token is replaced, where a function makes another one: a few times, then it is the end."""

import asyncio
from typing import Any

import pytest

from mesa_ws.client import Client, ConnectionInfo, Reconnection
from mesa_ws.errors import AuthenticationFailed, ConnectionClosed
from mesa_ws.messages.recipients import User
from mesa_ws.server.connection import Connection
from mesa_ws.transports.run import Server, serve

from .conftest import meet, meet_user
from .scripted import LIMIT, SOON, ScriptedServer, Visitor, message

BY_HAND = Reconnection(interval=0.001, max_pause=0.002, authenticate=False)


class Tokens:
    """A function that makes another token at every call: 1, 2, 3 ..."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> dict[str, Any]:
        self.made += 1
        return {"token": self.made}


async def refuse(scripted: ScriptedServer, token: int) -> None:
    """Refuse the next connection, which has to show that token."""
    guest = await scripted.guest()
    assert (await guest.authentication())["token"] == token
    await guest.close(1008)


async def refuse_attempt(guest: Visitor, client: Client, tokens: Tokens) -> None:
    """Let the client authenticate, and refuse it."""
    attempt = asyncio.create_task(client.authenticate(tokens))
    await guest.authentication()
    await guest.close(1008)
    with pytest.raises(AuthenticationFailed):
        await attempt


async def test_a_refused_token_is_replaced_by_a_new_one(scripted: ScriptedServer) -> None:
    client = scripted.client()
    ends: list[tuple[int, bool]] = []
    client.on_disconnected(lambda code, reason, will_reconnect: ends.append((code, will_reconnect)))
    guest = await meet_user(scripted, client, Tokens())
    guest.cut()
    await refuse(scripted, 2)
    third = await scripted.guest()
    assert (await third.welcome(id="1"))["token"] == 3
    await third.dispatch("AFTER")
    assert (await anext(client)).type == "AFTER"
    assert ends == [(1006, True), (1008, True)]


async def test_the_fourth_refusal_in_a_row_is_the_end(scripted: ScriptedServer) -> None:
    client, tokens = scripted.client(), Tokens()
    guest = await meet_user(scripted, client, tokens)
    guest.cut()
    for token in (2, 3, 4, 5):
        await refuse(scripted, token)
    async with asyncio.timeout(LIMIT):
        with pytest.raises(AuthenticationFailed):
            await client.wait_closed()
    assert tokens.made == 5


async def test_an_accepted_login_starts_the_count_over(scripted: ScriptedServer) -> None:
    client, tokens = scripted.client(), Tokens()
    guest = await meet_user(scripted, client, tokens)
    for _ in range(2):
        guest.cut()
        for _ in range(3):
            await refuse(scripted, tokens.made + 1)
        guest = await scripted.guest()
        await guest.welcome(id="1")
    await guest.dispatch("AFTER")
    assert (await anext(client)).type == "AFTER"


async def test_other_ends_in_between_do_not_start_it_over(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet_user(scripted, client, Tokens())
    guest.cut()
    for _ in range(3):
        guest = await scripted.guest()
        await guest.authentication()
        await guest.close(1008)
        guest = await scripted.guest()
        await guest.authentication()
        guest.cut()
    guest = await scripted.guest()
    await guest.authentication()
    await guest.close(1008)
    async with asyncio.timeout(LIMIT):
        with pytest.raises(AuthenticationFailed):
            await client.wait_closed()


async def test_a_function_that_is_too_slow_for_the_server_is_called_again(scripted: ScriptedServer) -> None:
    client = scripted.client()
    calls, is_slow = 0, asyncio.Event()

    async def make() -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls == 2:
            is_slow.set()
            await asyncio.wait_for(second.closed(), LIMIT)
        return {"token": calls}

    guest = await meet_user(scripted, client, make)
    guest.cut()
    second = await scripted.guest()
    await is_slow.wait()
    await second.close(1008)  # there was no attempt in time
    third = await scripted.guest()
    assert (await third.welcome(id="1"))["token"] == 3
    await third.dispatch("AFTER")
    assert (await anext(client)).type == "AFTER"


async def test_so_is_one_that_is_too_slow_the_first_time(scripted: ScriptedServer) -> None:
    client = scripted.client()
    is_slow, done = asyncio.Event(), asyncio.Event()

    async def make() -> dict[str, Any]:
        is_slow.set()
        await done.wait()
        return {"token": 1}

    first = await meet(scripted, client)
    attempt = asyncio.create_task(client.authenticate(make))
    await is_slow.wait()
    await first.close(1008)
    second = await scripted.guest()
    done.set()
    with pytest.raises(AuthenticationFailed):
        await attempt
    again = asyncio.create_task(client.authenticate(make))
    await second.welcome(id="1")
    assert await again == {"id": "1"}


async def test_the_first_refusal_is_told_at_once_and_another_attempt_may_follow(
    scripted: ScriptedServer,
) -> None:
    client, tokens = scripted.client(), Tokens()
    guest = await meet(scripted, client)
    attempt = asyncio.create_task(client.authenticate(tokens))
    await guest.authentication()
    await guest.close(1008, "expired")
    with pytest.raises(AuthenticationFailed, match="expired"):
        await attempt
    again = asyncio.create_task(client.authenticate(tokens))
    second = await scripted.guest()
    assert (await second.welcome(id="1"))["token"] == 2
    assert await again == {"id": "1"}


async def test_the_fourth_refused_attempt_of_an_application_is_the_last(scripted: ScriptedServer) -> None:
    client, tokens = scripted.client(), Tokens()
    guest = await meet(scripted, client)
    for _ in range(4):
        await refuse_attempt(guest, client, tokens)
        if tokens.made < 4:
            guest = await scripted.guest()
    with pytest.raises(AuthenticationFailed):
        await client.authenticate(tokens)
    assert tokens.made == 4


async def test_a_client_that_was_refused_and_does_not_try_again_ends(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    await refuse_attempt(guest, client, Tokens())
    await (await scripted.guest()).close(1008)  # there was no attempt in time
    with pytest.raises(ConnectionClosed, match="not attempted in time"):
        await client.wait_closed()


async def test_an_application_of_the_server_can_still_send_a_client_away(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet_user(scripted, client, Tokens())
    await guest.close(1008, "banned")
    with pytest.raises(ConnectionClosed, match="banned"):
        await client.wait_closed()


async def test_another_user_that_is_refused_leaves_who_the_client_was(scripted: ScriptedServer) -> None:
    client, tokens = scripted.client(), Tokens()
    guest = await meet_user(scripted, client, tokens)
    attempt = asyncio.create_task(client.authenticate(lambda: {"other": 1}))
    assert "other" in await guest.authentication()
    await guest.close(1008)
    with pytest.raises(AuthenticationFailed):
        await attempt
    assert (await (await scripted.guest()).welcome(id="1"))["token"] == 2


async def test_what_is_sent_after_a_refusal_waits_for_the_next_login(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet_user(scripted, client, Tokens())
    guest.cut()
    second = await scripted.guest()
    await second.authentication()
    closing = asyncio.create_task(second.close(1008))
    connection = client._reconnecting.connection
    assert connection is not None
    async with asyncio.timeout(LIMIT):
        await asyncio.wait({connection.websocket.ended})
        await client.send(message("WAITS"))
    await closing
    third = await scripted.guest()
    await third.welcome(id="1")
    assert await third.types(1) == ["WAITS"]


async def test_by_hand_every_refused_attempt_may_be_made_again(scripted: ScriptedServer) -> None:
    client, tokens = scripted.client(reconnect=BY_HAND), Tokens()
    users: asyncio.Queue[Any] = asyncio.Queue()

    @client.on_connected
    async def authenticate(info: ConnectionInfo) -> None:
        users.put_nowait(await client.authenticate(tokens))

    guest = await meet(scripted, client)
    await guest.authentication()
    await guest.close(1008)
    await (await scripted.guest()).welcome(id="1")
    async with asyncio.timeout(LIMIT):
        assert await users.get() == {"id": "1"}


async def test_without_reconnecting_the_first_refusal_is_the_end(scripted: ScriptedServer) -> None:
    client = scripted.client(reconnect=False)
    guest = await meet(scripted, client)
    await refuse_attempt(guest, client, Tokens())
    with pytest.raises(AuthenticationFailed):
        await client.wait_closed()


async def test_a_token_that_expired_while_the_server_was_away_costs_one_more_try() -> None:
    valid = {"first"}
    server = Server()

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User | None:
        return User("1") if data["token"] in valid else None

    current = "first"

    def cached() -> dict[str, Any]:
        nonlocal current
        shown, current = current, "second"  # it learns of the new one a moment too late
        return {"token": shown}

    async with serve(server) as endpoint, Client(endpoint.url, reconnect=SOON) as client:
        await client.authenticate(cached)
        current, valid = "first", {"second"}
        (connection,) = server.connections
        connection.disconnect()
        async with asyncio.timeout(LIMIT):
            while not (server.connections and next(iter(server.connections)).id == "1"):
                await asyncio.sleep(0.005)
        await server.send(message("AFTER"), ["1"])
        assert (await anext(client)).type == "AFTER"


async def away(scripted: ScriptedServer, client: Client, data: Any) -> tuple[Visitor, asyncio.Task[Any]]:
    """Authenticate again while the client is away; the next server has refused that."""
    visitor = await scripted.visitor()
    attempt = asyncio.create_task(client.authenticate(data))
    await asyncio.sleep(0)  # so that it is the first in line
    await visitor.greet()
    assert "other" in await visitor.authentication()
    await visitor.close(1008)
    return visitor, attempt


async def test_fixed_data_that_is_refused_after_a_reconnect_is_final_all_the_same(
    scripted: ScriptedServer,
) -> None:
    client, tokens = scripted.client(), Tokens()
    (await meet_user(scripted, client, tokens)).cut()
    _, attempt = await away(scripted, client, {"other": 1})
    with pytest.raises(AuthenticationFailed):
        await attempt
    with pytest.raises(AuthenticationFailed):
        await asyncio.wait_for(anext(client), LIMIT)
    assert tokens.made == 1, "the function of before is not called for a connection that has ended"


async def test_a_new_function_that_is_refused_after_a_reconnect_leaves_who_the_client_was(
    scripted: ScriptedServer,
) -> None:
    client = scripted.client()
    (await meet_user(scripted, client, {"fixed": 1})).cut()
    _, attempt = await away(scripted, client, lambda: {"other": 1})
    with pytest.raises(AuthenticationFailed):
        await attempt
    assert "fixed" in await (await scripted.guest()).welcome(id="1")
