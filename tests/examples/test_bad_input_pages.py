"""The examples of bad input on the pages about portals and requests, run."""

import logging
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from mesa_ws import Client, MemoryBackend, MemoryHub, Message, Portal, RequestFailed, Server, serve
from tests.examples.programs import LIMIT
from tests.system.waiting import until

HOWTO = Path(__file__).parents[2] / "docs/howto"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def run(page: str, section: str, **names: Any) -> dict[str, Any]:
    """Run the Python below a heading of a page, with given names."""
    text = (HOWTO / page).read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    code = "\n".join(BLOCK.findall(text))
    for shown in (r"^portal = .*$", r"^server = .*$"):
        code = re.sub(shown, "", code, flags=re.MULTILINE)
    exec(compile(code, page, "exec"), names)
    return names


async def refuses(client: Client, data: object) -> None:
    with pytest.raises(RequestFailed) as caught:
        await client.request(Message(0, data, "ADD"), LIMIT)
    assert caught.value.code == "bad_numbers"


async def test_a_portal_refuses_bad_input_as_its_page_shows(
    namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    hub = MemoryHub()
    server = Server(MemoryBackend(hub, namespace=namespace), namespace=namespace, portals=True)
    portal = Portal(hub, namespace=namespace)
    run("portals.md", "Refuse bad input", portal=portal)
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(serve(server))
        await stack.enter_async_context(portal)
        client = await stack.enter_async_context(Client(endpoint.url))
        assert (await client.request(Message(0, {"numbers": [1, 2]}, "ADD"), LIMIT)).data == 3
        await refuses(client, {"numbers": ["x"]})
        await client.send(Message(0, {}, "ADD"))
        await until(lambda: portal.rejected == 2)
    assert "bad_numbers: None sent Message(opcode=0, data={'numbers': ['x']}, type='ADD')" in caplog.text


async def test_a_server_refuses_bad_input_as_its_page_shows() -> None:
    server = Server()
    run("request.md", "Refuse and reject", server=server)
    async with serve(server) as endpoint, Client(endpoint.url) as client:
        assert (await client.request(Message(0, [1, 2], "ADD"), LIMIT)).data == 3
        await refuses(client, "x")
        [connection] = server.connections
        assert connection.state.rejected == 1
        for _ in range(100):
            await client.send(Message(0, None, "ADD"))
        await until(lambda: server.connections == ())
