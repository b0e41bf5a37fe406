"""The two wires do not mix, not even in one namespace."""

import pytest

from mesa_ws import AsyncDispatcher, Message
from mesa_ws.settings import Wire
from tests.system.server.conftest import Joining, Serving, accepting


@pytest.mark.parametrize(("of_server", "of_dispatcher"), [("native", "mesa1"), ("mesa1", "native")])
async def test_what_another_wire_dispatches_reaches_no_server_and_waits_there(
    redis_url: str,
    namespace: str,
    serving: Serving,
    join: Joining,
    of_server: Wire,
    of_dispatcher: Wire,
) -> None:
    server = accepting(backend=redis_url, namespace=namespace, wire=of_server)
    peer = await join(await serving(server), "1")
    async with AsyncDispatcher(redis_url, namespace=namespace, wire=of_dispatcher, sync=True) as other:
        receipt = await other.dispatch(Message(0, {}, "STRAY"), ["1"])
        assert receipt.nodes == 0
        assert (receipt.deliveries["1"].stored, receipt.deliveries["1"].online) == (True, 0)
    await server.send(Message(0, "its own", "M"), ["1"])
    assert (await peer.until(op=0))["d"] == "its own"
