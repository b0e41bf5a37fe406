"""The HTTP API of a server on the 1.x Redis wire uses the wire of its server."""

from collections.abc import AsyncIterator

import pytest

from mesa_ws import AsyncDispatcher, InvalidMessage, Message
from mesa_ws.http_server.server import DispatchApi
from mesa_ws.settings import Wire
from tests.http_site import KEY
from tests.system.server.conftest import Joining, Serving, accepting
from tests.system.server.peer import Peer

Site = tuple[AsyncDispatcher, Peer]


@pytest.fixture
async def site(
    request: pytest.FixtureRequest, redis_url: str, namespace: str, serving: Serving, join: Joining
) -> AsyncIterator[Site]:
    """A dispatcher at the API of a server of a wire, and a client of that server."""
    wire: Wire = getattr(request, "param", "mesa1")
    server = accepting(backend=redis_url, namespace=namespace, wire=wire, sync=True)
    peer = await join(await serving(server), "1")
    async with DispatchApi(server, key=KEY, port=0) as api, AsyncDispatcher(api.url, key=KEY) as dispatcher:
        yield dispatcher, peer


@pytest.mark.parametrize("opcode", [3, 7, 9])
async def test_opcodes_that_1x_leaves_to_applications_are_taken(site: Site, opcode: int) -> None:
    dispatcher, peer = site
    await dispatcher.dispatch(Message(opcode, "free"), ["1"])
    assert (await peer.until(op=opcode))["d"] == "free"
    await dispatcher.dispatch_many([(Message(opcode, "free in a batch"), ["1"])])
    assert (await peer.until(op=opcode))["d"] == "free in a batch"


@pytest.mark.parametrize(
    ("site", "opcode"), [("mesa1", 22), ("native", 22), ("native", 7)], indirect=["site"]
)
async def test_opcodes_of_the_servers_own_wire_are_not(site: Site, opcode: int) -> None:
    dispatcher, _ = site
    with pytest.raises(InvalidMessage, match="opcode"):
        await dispatcher.dispatch(Message(opcode), ["1"])
    with pytest.raises(InvalidMessage, match="opcode"):
        await dispatcher.dispatch_many([(Message(opcode), ["1"])])
