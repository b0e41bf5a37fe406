"""Members of `class Color(str, Enum)` and other subclasses of `str` count as the text that they hold."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest

from mesa_ws import AsyncDispatcher, Client, Dispatcher, DispatchEvent, Message, Portal, Server, User, serve
from mesa_ws.backend.base import Backend
from mesa_ws.backend.queries import Heads, Online, Peek
from mesa_ws.http_server.server import DispatchApi
from tests.contract.cluster import LIMIT, Cluster

KEY = "0123456789abcdef"


def member(text: str) -> str:
    """Return a member of `class Named(str, Enum)` whose value is `text`."""
    make: Any = Enum
    made: str = make("Named", {"MEMBER": text}, type=str).MEMBER
    return made


class Odd(str):
    """A `str` that prints, encodes and hashes as another text."""

    def __str__(self) -> str:
        return "odd"

    def __format__(self, spec: str) -> str:
        return "odd"

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return self is other

    def encode(self, *_: Any) -> bytes:
        return b"odd"


@pytest.fixture(params=[member, Odd], ids=["enum", "subclass"])
def odd(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Makes an instance of a subclass of `str`."""
    make: Callable[[str], str] = request.param
    return make


@dataclass
class Site:
    """A server, and a dispatcher to it.

    Attributes:
        server: running; clients log in with any id.
        dispatch: dispatches with sync, as another process would.
        presence: presence of the cluster.
    """

    server: Server
    url: str
    dispatch: Callable[..., Any]
    presence: Any


@pytest.fixture(params=["memory", "redis", "http", "mesa1"])
async def site(
    request: pytest.FixtureRequest, redis_url: str, namespace: str, odd: Callable[[str], str]
) -> AsyncIterator[Site]:
    kind: str = request.param
    wire: Any = odd("mesa1" if kind == "mesa1" else "native")
    place = odd(redis_url) if kind in ("redis", "mesa1") else None
    server = Server(place, namespace=odd(namespace), sync=True, wire=wire)

    @server.authenticator
    def authenticate(data: Any, connection: object) -> User:
        return User(odd(data["id"]))

    async with AsyncExitStack() as stack:
        api = DispatchApi(server, key=odd(KEY), port=0)
        services = [api] if kind == "http" else []
        endpoint = await stack.enter_async_context(serve(server, odd("127.0.0.1"), 0, *services))
        if kind == "memory":
            yield Site(server, endpoint.url, server.send, server.presence)
            return
        where = {"url": odd(api.url), "key": odd(KEY)} if kind == "http" else {"url": odd(redis_url)}
        dispatcher = await stack.enter_async_context(
            AsyncDispatcher(**where, namespace=odd(namespace), sync=True, wire=wire)  # type: ignore[arg-type]
        )
        yield Site(server, endpoint.url, dispatcher.dispatch, dispatcher.presence)


async def logged_in(stack: AsyncExitStack, url: str, id: str) -> Client:
    client = await stack.enter_async_context(Client(url))
    await client.authenticate({"id": id})
    return client


async def next_of(client: Client) -> Message:
    async with asyncio.timeout(LIMIT):
        return await anext(client)


async def test_a_user_gets_what_is_sent_to_a_member_of_an_enum(site: Site, odd: Callable[[str], str]) -> None:
    receipt = await site.dispatch(Message(0, 1, odd("FIRST")), [odd("red"), odd("red"), "red"])
    assert {type(id) for id in receipt.deliveries} == {str}
    assert list(receipt.deliveries) == ["red"]
    async with AsyncExitStack() as stack:
        red = await logged_in(stack, site.url, "red")
        await site.dispatch(Message(0, 2), [odd("red")])
        assert [await next_of(red), await next_of(red)] == [Message(0, 1, "FIRST"), Message(0, 2)]
        assert await site.presence.online([odd("red")]) == {"red": 1}


async def test_exclusions_by_a_member_of_an_enum_hold(site: Site, odd: Callable[[str], str]) -> None:
    async with AsyncExitStack() as stack:
        red, blue = [await logged_in(stack, site.url, id) for id in ("red", "blue")]
        await site.dispatch(Message(0, 1), ["red", "blue"], [odd("red")])
        await site.dispatch(Message(0, 2), [odd("*")], [odd("red")])
        await site.dispatch(Message(0, 3), odd("*"))
        assert [await next_of(blue) for _ in range(3)] == [Message(0, 1), Message(0, 2), Message(0, 3)]
        assert await next_of(red) == Message(0, 3)


async def test_a_key_that_is_a_member_of_an_enum_names_the_same_message(
    site: Site, odd: Callable[[str], str]
) -> None:
    keys: list[Any] = [odd("once"), "once"]
    first, second = [await site.dispatch(Message(0, 1), ["red"], idempotency_key=key) for key in keys]
    assert first.message_id == second.message_id


async def test_an_event_for_a_member_of_an_enum_closes_its_connections(
    site: Site, odd: Callable[[str], str]
) -> None:
    async with AsyncExitStack() as stack:
        red = await stack.enter_async_context(Client(odd(site.url), reconnect=False))
        await red.authenticate({"id": "red"})
        await site.dispatch(DispatchEvent(odd("DISCONNECT_CLIENT")), [odd("red")])
        async with asyncio.timeout(LIMIT):
            with pytest.raises(Exception, match="1000"):
                await red.wait_closed()


async def test_handlers_of_a_type_that_is_a_member_of_an_enum_are_called(odd: Callable[[str], str]) -> None:
    server = Server()

    @server.on_message(odd("ASK"))
    async def answer(message: Message, connection: object) -> Any:
        return message.data

    async with serve(server) as endpoint:
        client = Client(odd(endpoint.url), headers={odd("X-Name"): odd("red")})

        @client.on_request(odd("ASK"))
        async def ask(message: Message) -> Any:
            return message.data

        async with client:
            assert (await client.request(Message(0, 7, odd("ASK")))).data == 7


async def test_outboxes_are_found_by_a_member_of_an_enum(cluster: Cluster, odd: Callable[[str], str]) -> None:
    node = await cluster.node({odd("red"): 1})
    backend: Backend = node.backend
    assert await backend.query(Online([odd("red"), "red"])) == {"red": 1}
    assert list(await backend.query(Heads([odd("red")]))) == ["red"]
    assert await backend.query(Peek(odd("red"), 1)) == []
    assert await backend.purge(odd("red")) == 0


async def test_portals_of_a_namespace_that_is_a_member_of_an_enum_take_part(
    redis_url: str, namespace: str, odd: Callable[[str], str]
) -> None:
    seen: asyncio.Queue[Any] = asyncio.Queue()
    portal = Portal(odd(redis_url), namespace=odd(namespace))

    @portal.on_message(odd("PING"))
    async def ping(event: Any) -> None:
        seen.put_nowait(event.message.data)

    server = Server(redis_url, namespace=namespace, portals=True)
    async with portal, serve(server) as endpoint, Client(endpoint.url) as client:
        await client.send(Message(0, 5, "PING"))
        async with asyncio.timeout(LIMIT):
            assert await seen.get() == 5


def test_threads_look_up_a_member_of_an_enum(
    redis_url: str, namespace: str, odd: Callable[[str], str]
) -> None:
    with (
        Dispatcher(odd(redis_url), namespace=odd(namespace), sync=True) as odd_one,
        Dispatcher(redis_url, namespace=namespace, sync=True) as other,
    ):
        receipt = odd_one.dispatch(Message(0, 1), [odd("red")])
        assert list(other.status(receipt).ids) == ["red"]
        assert other.presence.online([odd("red")]) == {"red": 0}
        assert odd_one.status(receipt) == other.status(receipt)
