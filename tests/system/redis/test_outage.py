"""What clients notice while Redis is away."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mesa_ws import Client, Dispatcher, Message, RedisBackend, Server, User, serve
from mesa_ws.errors import BackendUnavailable, ConnectionClosed
from mesa_ws.server.connection import Connection
from mesa_ws.transports.run import Endpoint
from tests.redis_server import RedisServer
from tests.system.conftest import LEASE
from tests.system.waiting import until

SOON = {"interval": 0.01, "max_pause": 0.02}


@pytest.fixture
async def server(own_redis: RedisServer, namespace: str) -> Server:
    backend = RedisBackend(own_redis.url, namespace=namespace, lease=LEASE, timeout=1.0)
    server = Server(backend, namespace=namespace)

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        return User(data["id"])

    @server.on_message("PING")
    async def ping(message: Message, connection: Connection) -> None:
        connection.send(Message(0, message.data, "PONG"))

    return server


@pytest.fixture
async def endpoint(server: Server) -> AsyncIterator[Endpoint]:
    async with serve(server) as endpoint:
        yield endpoint


async def test_clients_stay_connected_and_are_served(
    server: Server, endpoint: Endpoint, own_redis: RedisServer
) -> None:
    async with Client(endpoint.url, reconnect=False) as client:
        await client.authenticate({"id": "0"})
        own_redis.stop()
        await until(lambda: not server.is_ready)
        await client.send(Message(0, 1, "PING"))
        assert await anext(client) == Message(0, 1, "PONG")


async def test_messages_reach_clients_that_stayed_when_redis_is_back(
    server: Server, endpoint: Endpoint, own_redis: RedisServer, namespace: str
) -> None:
    async with Client(endpoint.url, reconnect=False) as client:
        await client.authenticate({"id": "0"})
        own_redis.stop()
        await until(lambda: not server.is_ready)
        own_redis.start()
        await until(lambda: server.is_ready)
        with Dispatcher(own_redis.url, namespace=namespace) as dispatcher:
            await asyncio.to_thread(dispatcher.dispatch, Message(0, 2, "BACK"), ["0"])
        assert await anext(client) == Message(0, 2, "BACK")


async def test_messages_to_everybody_reach_a_server_without_users_when_redis_is_back(
    server: Server, endpoint: Endpoint, own_redis: RedisServer, namespace: str
) -> None:
    async with Client(endpoint.url, reconnect=False) as client:
        own_redis.stop()
        await until(lambda: not server.is_ready)
        own_redis.start()
        await until(lambda: server.is_ready)
        with Dispatcher(own_redis.url, namespace=namespace) as dispatcher:
            await asyncio.to_thread(dispatcher.dispatch, Message(0, 3, "BACK"))
        assert await anext(client) == Message(0, 3, "BACK")


async def test_a_login_is_closed_with_1013(
    server: Server, endpoint: Endpoint, own_redis: RedisServer
) -> None:
    own_redis.stop()
    async with Client(endpoint.url, reconnect=False) as client:
        with pytest.raises(ConnectionClosed) as raised:
            await client.authenticate({"id": "0"})
    assert raised.value.code == 1013


async def test_a_client_that_was_closed_with_1013_comes_back_and_gets_in(
    server: Server, endpoint: Endpoint, own_redis: RedisServer
) -> None:
    own_redis.stop()
    async with Client(endpoint.url, reconnect=SOON) as client:
        with pytest.raises(ConnectionClosed):
            await client.authenticate({"id": "0"})
        own_redis.start()
        await until(lambda: server.is_ready)
        assert await client.authenticate({"id": "0"}) == {"id": "0"}


async def test_what_the_server_sends_is_an_error(
    server: Server, endpoint: Endpoint, own_redis: RedisServer
) -> None:
    own_redis.stop()
    with pytest.raises(BackendUnavailable):
        await server.send(Message(0, 1, "HELLO"), ["0"])
