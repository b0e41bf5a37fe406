"""How a client becomes a user, and stays one."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from mesa_ws.client import Client, ClientLimits, ConnectionInfo, Reconnection
from mesa_ws.errors import (
    AuthenticationFailed,
    ConnectionClosed,
    InvalidMessage,
    InvalidSettings,
    QueueFull,
    TimedOut,
)
from mesa_ws.messages.recipients import User
from mesa_ws.server.connection import Connection
from mesa_ws.settings import Authentication
from mesa_ws.transports.run import Endpoint, Server, serve

from .conftest import meet, meet_user
from .scripted import LIMIT, SOON, ScriptedServer, message

BY_HAND = Reconnection(interval=0.001, max_pause=0.002, authenticate=False)


async def test_it_returns_the_user_that_the_server_sent(endpoint: Endpoint) -> None:
    async with Client(endpoint.url) as client:
        stages = [client.is_authenticated]
        assert await client.authenticate({"id": "1"}) == {"id": "1", "name": "somebody"}
        assert [*stages, client.is_authenticated] == [False, True]
        assert client.user == {"id": "1", "name": "somebody"}


async def test_a_refusal_is_an_error_and_the_end(endpoint: Endpoint) -> None:
    async with Client(endpoint.url, reconnect=SOON) as client:
        for attempt in (client.authenticate({"id": "bad"}), client.send(message("LATER")), anext(client)):
            with pytest.raises(AuthenticationFailed) as raised:
                await attempt
            assert raised.value.code == 1008
        with pytest.raises(AuthenticationFailed):
            await client.wait_closed()


async def test_a_client_that_forgets_to_authenticate_is_told_so() -> None:
    server = Server(authentication=Authentication(timeout=0.05))
    server.authenticator(lambda data, connection: User(data["id"]))
    async with serve(server) as endpoint, Client(endpoint.url) as client:
        with pytest.raises(
            ConnectionClosed, match="1008: authentication refused or revoked, not attempted in time"
        ):
            await anext(client)


async def test_a_failing_authenticator_closes_but_is_no_refusal() -> None:
    server = Server()

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        if data["id"] == "fails":
            raise LookupError("the database is away")
        return User(data["id"])

    async with serve(server) as endpoint, Client(endpoint.url, reconnect=SOON) as client:
        with pytest.raises(ConnectionClosed) as raised:
            await client.authenticate({"id": "fails"})
        assert raised.value.code == 1011
        assert await client.authenticate({"id": "1"}) == {"id": "1"}


async def test_a_cut_before_the_answer_is_an_error(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    authenticating = asyncio.create_task(client.authenticate({"id": "1"}))
    await guest.authentication()
    guest.cut()
    with pytest.raises(ConnectionClosed) as raised:
        await authenticating
    assert raised.value.code == 1006


async def test_no_answer_in_time_is_an_error() -> None:
    server = Server(authentication=Authentication(disconnect_on_fail=False))

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User | None:
        return User("1") if data["id"] == "1" else None

    async with serve(server) as endpoint, Client(endpoint.url) as client:
        with pytest.raises(TimedOut, match=r"within 0\.1 s"):
            await client.authenticate({"id": "bad"}, timeout=0.1)
        assert await client.authenticate({"id": "1"}) == {"id": "1"}


async def test_a_late_answer_still_counts(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    with pytest.raises(TimedOut):
        await client.authenticate({"id": "1"}, timeout=0.01)
    await guest.welcome(id="1")
    await guest.dispatch("AFTER")
    assert (await anext(client)).type == "AFTER"
    assert client.user == {"id": "1"}
    guest.cut()
    assert (await (await scripted.guest()).authentication())["id"] == "1"


async def test_a_refusal_after_the_time_limit_is_still_a_refusal(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    with pytest.raises(TimedOut):
        await client.authenticate({"id": "1"}, timeout=0.01)
    await guest.close(1008, "no")
    with pytest.raises(AuthenticationFailed):
        await client.wait_closed()


async def test_an_answer_nobody_asked_for_updates_the_user(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet_user(scripted, client, {"id": "1"})
    await guest.send(op=22, d={"id": "1", "name": "new"})
    await guest.dispatch("AFTER")
    await anext(client)
    assert client.user == {"id": "1", "name": "new"}
    guest.cut()
    assert (await (await scripted.guest()).authentication())["id"] == "1"


async def test_a_cancelled_attempt_leaves_the_client_usable(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    attempt = asyncio.create_task(client.authenticate({"id": "1"}))
    assert (await guest.authentication())["id"] == "1"
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    second = asyncio.create_task(client.authenticate({"id": "2"}))
    await guest.welcome(id="2")
    assert await second == {"id": "2"}


async def test_two_attempts_at_once_are_made_one_after_the_other(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    both = asyncio.gather(client.authenticate({"id": "1"}), client.authenticate({"id": "2"}))
    await guest.welcome(id="1")
    await guest.welcome(id="2")
    assert [*await both] == [{"id": "1"}, {"id": "2"}]


@pytest.mark.parametrize("should_sync", [True, False])
async def test_it_says_whether_to_sync(scripted: ScriptedServer, should_sync: bool) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    attempt = asyncio.create_task(client.authenticate({"id": "1"}, should_sync=should_sync))
    assert await guest.welcome() == {"id": "1", "shouldSync": should_sync}
    await attempt


@pytest.mark.parametrize("data", [None, "1", [1], {"id": object()}])
async def test_data_that_cannot_be_sent_is_refused(endpoint: Endpoint, data: Any) -> None:
    async with Client(endpoint.url) as client:
        with pytest.raises(InvalidMessage):
            await client.authenticate(data)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "10", True, None])
async def test_a_timeout_that_is_no_duration_is_refused(endpoint: Endpoint, timeout: Any) -> None:
    async with Client(endpoint.url) as client:
        with pytest.raises(InvalidSettings, match="timeout: expected a number of seconds"):
            await client.authenticate({}, timeout=timeout)


async def test_a_flood_of_messages_does_not_keep_the_answer_out(scripted: ScriptedServer) -> None:
    client = scripted.client(ClientLimits(max_queued=2))
    guest = await meet(scripted, client)
    attempt = asyncio.create_task(client.authenticate({"id": "1"}))
    await guest.authentication()
    for number in range(5):
        await guest.dispatch("FLOOD", "x" * 20_000 + str(number))
    await guest.send(op=22, d={"id": "1"})
    async with asyncio.timeout(LIMIT):
        assert await attempt == {"id": "1"}
    assert [(await anext(client)).data[-1] for _ in range(5)] == ["0", "1", "2", "3", "4"]


# After a reconnection.


async def test_it_authenticates_again_by_itself(scripted: ScriptedServer) -> None:
    client = scripted.client()
    data = {"id": "1", "token": "t"}
    guest = await meet_user(scripted, client, data)
    data["id"] = "changed by the application"
    guest.cut()
    second = await scripted.guest()
    assert await second.welcome(id="1") == {"id": "1", "token": "t", "shouldSync": True}
    second.cut()
    third = await scripted.guest()
    assert (await third.welcome(id="1"))["token"] == "t"


async def test_a_user_who_never_was_one_is_not_authenticated_again(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet(scripted, client)
    guest.cut()
    second = await scripted.guest()
    await client.send(message("FIRST"))
    assert await second.types(1) == ["FIRST"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_function_makes_the_data_anew_each_time(scripted: ScriptedServer, is_async: bool) -> None:
    made = 0

    def make() -> dict[str, Any]:
        nonlocal made
        made += 1
        return {"token": made}

    async def make_async() -> dict[str, Any]:
        return make()

    client = scripted.client()
    guest = await meet_user(scripted, client, make_async if is_async else make)
    guest.cut()
    assert (await (await scripted.guest()).authentication())["token"] == 2


async def test_a_function_that_fails_is_reported_and_tried_again(scripted: ScriptedServer) -> None:
    reported: asyncio.Queue[Exception] = asyncio.Queue()
    outcomes: Iterator[dict[str, Any] | Exception] = iter(
        [{"token": 1}, LookupError("no token"), {"token": 3}]
    )

    def make() -> dict[str, Any]:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    client = scripted.client()
    client.on_error(reported.put_nowait)
    guest = await meet_user(scripted, client, make)
    guest.cut()
    second = await scripted.guest()
    assert (await second.closed())[0] == 1000
    assert isinstance(await reported.get(), LookupError)
    third = await scripted.guest()
    assert (await third.authentication())["token"] == 3


async def test_the_first_call_raises_what_the_function_raises(endpoint: Endpoint) -> None:
    def make() -> dict[str, Any]:
        raise TimeoutError("the token server is slow")

    async with Client(endpoint.url) as client:
        with pytest.raises(TimeoutError, match="the token server is slow"):
            await client.authenticate(make)


async def test_a_server_that_does_not_answer_again_is_left_and_tried_again(scripted: ScriptedServer) -> None:
    reported: asyncio.Queue[Exception] = asyncio.Queue()
    client = scripted.client()
    client.on_error(reported.put_nowait)
    guest = await meet(scripted, client)
    attempt = asyncio.create_task(client.authenticate({"id": "1"}, timeout=0.1))
    await guest.welcome()
    await attempt
    guest.cut()
    second = await scripted.guest()
    await second.authentication()
    assert (await second.closed())[0] == 1000
    assert isinstance(await reported.get(), TimedOut)
    await (await scripted.guest()).welcome()


async def test_a_refusal_after_a_reconnection_ends_the_client(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet_user(scripted, client, {"token": "expires"})
    waiting = asyncio.ensure_future(anext(client))
    guest.cut()
    second = await scripted.guest()
    await second.authentication()
    await second.close(1008)
    with pytest.raises(AuthenticationFailed):
        await waiting
    with pytest.raises(AuthenticationFailed):
        await client.authenticate({"token": "new"})


async def test_a_cut_while_authenticating_again_is_tried_again(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet_user(scripted, client, {"id": "1"})
    guest.cut()
    second = await scripted.guest()
    await second.authentication()
    second.cut()
    await (await scripted.guest()).welcome()


async def test_what_is_sent_meanwhile_follows_the_authentication(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet_user(scripted, client, {"id": "1"})
    guest.cut()
    second = await scripted.guest()
    await second.authentication()
    await client.send(message("FIRST"))
    await client.send(message("SECOND"))
    await second.send(op=0, d=None, t="NOT YET")
    assert (await anext(client)).type == "NOT YET"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await second.socket.recv()
    await second.send(op=22, d={})
    assert await second.types(2) == ["FIRST", "SECOND"]


async def test_authenticating_by_hand_as_well_does_not_ask_twice(scripted: ScriptedServer) -> None:
    client = scripted.client()
    users: asyncio.Queue[Any] = asyncio.Queue()

    @client.on_connected
    async def authenticate(info: ConnectionInfo) -> None:
        users.put_nowait(await client.authenticate({"id": "1"}))

    guest = await meet(scripted, client)
    await guest.welcome(id="1", time="first")
    assert (await users.get())["time"] == "first"
    guest.cut()
    second = await scripted.guest()
    await second.welcome(id="1", time="second")
    async with asyncio.timeout(LIMIT):
        assert (await users.get())["time"] == "second"
    await client.send(message("NEXT"))
    assert await second.types(1) == ["NEXT"]


async def test_the_same_data_by_hand_twice_asks_again(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet_user(scripted, client, {"id": "1"})
    again = asyncio.create_task(client.authenticate({"id": "1"}))
    await guest.welcome(time="again")
    assert await again == {"time": "again"}
    guest.cut()
    second = await scripted.guest()
    await second.welcome(time="by itself")
    assert await client.authenticate({"id": "1"}) == {"time": "by itself"}
    again = asyncio.create_task(client.authenticate({"id": "1"}))
    await second.welcome(time="by hand")
    assert await again == {"time": "by hand"}


async def test_other_data_by_hand_asks_again(scripted: ScriptedServer) -> None:
    client = scripted.client()
    guest = await meet_user(scripted, client, {"id": "1"})
    guest.cut()
    second = await scripted.guest()
    await second.welcome(id="1")
    attempt = asyncio.create_task(client.authenticate({"id": "2"}))
    assert (await second.welcome(id="2"))["id"] == "2"
    assert await attempt == {"id": "2"}


async def test_authenticating_by_hand_alone_releases_what_was_sent(scripted: ScriptedServer) -> None:
    client = scripted.client(reconnect=BY_HAND)
    guest = await meet_user(scripted, client, {"id": "1"})
    guest.cut()
    second = await scripted.guest()
    await client.send(message("KEPT"))
    attempt = asyncio.create_task(client.authenticate({"id": "1"}))
    await second.welcome(id="1")
    await attempt
    assert await second.types(1) == ["KEPT"]


async def test_by_hand_nothing_is_sent_as_nobody(scripted: ScriptedServer) -> None:
    client = scripted.client(reconnect=BY_HAND, queue_size=1)
    guest = await meet_user(scripted, client, {"id": "1"})
    guest.cut()
    second = await scripted.guest()
    await client.send(message("KEPT"))
    with pytest.raises(QueueFull):
        await client.send(message("TOO MUCH"))
    second.cut()
    await scripted.guest()


async def test_authenticating_while_away_waits_for_the_next_connection(scripted: ScriptedServer) -> None:
    client = scripted.client()
    away = asyncio.Event()
    client.on_disconnected(lambda code, reason, will_reconnect: away.set())
    guest = await meet(scripted, client)
    guest.cut()
    await away.wait()
    attempt = asyncio.create_task(client.authenticate({"id": "1"}))
    await (await scripted.guest()).welcome(id="1")
    assert await attempt == {"id": "1"}


async def test_authenticating_while_away_replaces_what_would_be_repeated(scripted: ScriptedServer) -> None:
    client = scripted.client()
    away = asyncio.Event()
    client.on_disconnected(lambda code, reason, will_reconnect: away.set())
    guest = await meet_user(scripted, client, {"id": "1"})
    guest.cut()
    await away.wait()
    attempt = asyncio.create_task(client.authenticate({"id": "2"}))
    second = await scripted.guest()
    assert (await second.welcome(id="2"))["id"] == "2"
    assert await attempt == {"id": "2"}
    await client.send(message("NEXT"))
    assert await second.types(1) == ["NEXT"]


async def test_authenticating_while_away_has_its_time_limit(scripted: ScriptedServer) -> None:
    client = scripted.client(reconnect=Reconnection(interval=60))
    away = asyncio.Event()
    client.on_disconnected(lambda code, reason, will_reconnect: away.set())
    guest = await meet(scripted, client)
    guest.cut()
    await away.wait()
    with pytest.raises(TimedOut):
        await client.authenticate({"id": "1"}, timeout=0.01)


async def test_closing_ends_an_attempt_that_waits_for_a_connection(scripted: ScriptedServer) -> None:
    client = scripted.client(reconnect=Reconnection(interval=60))
    away = asyncio.Event()
    client.on_disconnected(lambda code, reason, will_reconnect: away.set())
    guest = await meet(scripted, client)
    guest.cut()
    await away.wait()
    attempt = asyncio.create_task(client.authenticate({"id": "1"}))
    await asyncio.sleep(0)
    await client.aclose()
    with pytest.raises(ConnectionClosed, match="closed by this client"):
        await attempt


async def test_the_function_may_close_the_client(scripted: ScriptedServer) -> None:
    client = scripted.client()
    times = 0
    went_on = asyncio.Event()

    async def make() -> dict[str, Any]:
        nonlocal times
        times += 1
        if times == 2:
            await asyncio.wait_for(client.aclose(), LIMIT)
            went_on.set()
        return {"id": "1"}

    guest = await meet_user(scripted, client, make)
    guest.cut()
    second = await scripted.guest()
    assert await second.closed() == (1000, "")
    async with asyncio.timeout(LIMIT):
        await client.wait_closed()
        await went_on.wait()
