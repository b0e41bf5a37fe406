"""Where a server listens: names, lists, both families, one port."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from mesa_ws.dispatcher import AsyncDispatcher
from mesa_ws.errors import ListenFailed
from mesa_ws.http_server.server import DispatchApi
from mesa_ws.messages.message import Message
from mesa_ws.transports import listening

from .conftest import Joining, Serving, accepting
from .peer import Peer

pytestmark = pytest.mark.native("the listening socket")

KEY = "0123456789abcdef"
BOTH = ("127.0.0.1", "::1")


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


both_families = pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")


Naming = Callable[..., None]


@pytest.fixture
async def name(monkeypatch: pytest.MonkeyPatch) -> Naming:
    """Gives a name addresses, whatever the machine knows about it."""
    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo

    def add(name: str, *addresses: str) -> None:
        async def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
            hosts = addresses if host == name else (host,)
            return [found for one in hosts for found in await resolve(one, *args, **options)]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)

    return add


async def answers(host: str, port: int) -> bool:
    """Whether clients are served at this address."""
    async with Peer.connect(f"ws://{f'[{host}]' if ':' in host else host}:{port}/") as peer:
        return bool((await peer.receive())["op"] == 10)


@both_families
@pytest.mark.parametrize("host", ["localhost", "", BOTH, list(BOTH), ("localhost", "127.0.0.1")])
async def test_one_port_is_served_on_every_address(
    serving: Serving, join: Joining, name: Naming, host: Any
) -> None:
    name("localhost", "::1", "127.0.0.1")
    endpoint = await serving(accepting(), host=host)
    assert [await answers(address, endpoint.port) for address in BOTH] == [True, True]
    await (await join(endpoint)).authenticate("1")


@both_families
@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "ws://localhost:"),
        ("localhost", "ws://localhost:"),
        ("127.0.0.1", "ws://127.0.0.1:"),
        ("::1", "ws://[::1]:"),
        (BOTH, "ws://127.0.0.1:"),
    ],
)
async def test_the_url_names_the_first_host(serving: Serving, host: Any, url: str) -> None:
    endpoint = await serving(accepting(), host=host)
    assert endpoint.url == f"{url}{endpoint.port}/"


@both_families
async def test_a_free_port_is_free_on_every_address(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = listening.listen_on
    refused: list[int] = []

    def listen_on(places: Any, port: int, backlog: int) -> list[socket.socket]:
        if refused:
            return free(places, port, backlog)
        # The first port turns out to be taken on the second address.
        (first,) = free(places[:1], port, backlog)
        number = first.getsockname()[1]
        first.close()
        with socket.create_server(("::1", number), family=socket.AF_INET6):
            refused.append(number)
            return free(places, number, backlog)

    monkeypatch.setattr(listening, "listen_on", listen_on)
    endpoint = await serving(accepting(), host=BOTH)
    assert refused
    assert endpoint.port not in refused
    assert [await answers(address, endpoint.port) for address in BOTH] == [True, True]


@both_families
async def test_a_port_that_is_taken_on_one_address_is_refused(serving: Serving) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenFailed, match=f"cannot listen on ::1:{port}: Address already in use"):
            await serving(accepting(), host=BOTH, port=port)
        with socket.create_server(("127.0.0.1", port)):
            """What was bound before the failure is free again."""


@pytest.mark.parametrize("absent", ["192.0.2.1", ("127.0.0.1", "192.0.2.1")])
async def test_an_address_of_another_machine_is_refused(serving: Serving, absent: Any) -> None:
    with pytest.raises(ListenFailed, match=r"cannot listen on 192.0.2.1:0: Cannot assign requested address"):
        await serving(accepting(), host=absent)


async def test_an_address_that_a_name_has_and_the_machine_lacks_is_left_out(
    serving: Serving, name: Naming
) -> None:
    name("here", "2001:db8::1", "127.0.0.1")
    endpoint = await serving(accepting(), host="here")
    assert await answers("127.0.0.1", endpoint.port)


@both_families
@pytest.mark.parametrize("host", ["", BOTH])
async def test_the_dispatch_api_listens_on_every_address(serving: Serving, host: Any) -> None:
    server = accepting()
    api = DispatchApi(server, key=KEY, host=host, port=0)
    await serving(server)
    async with api:
        port = api.url.rpartition(":")[2]
        for url in (api.url, f"http://127.0.0.1:{port}", f"http://[::1]:{port}"):
            async with AsyncDispatcher(url, key=KEY) as dispatcher:
                await dispatcher.dispatch(Message(0, 1, "A"), ["1"])
