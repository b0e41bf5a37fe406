"""The JavaScript client in Deno and Bun, with their own WebSocket classes."""

import shutil
from pathlib import Path

import pytest

from tests.system.waiting import until

from .runtime import DRIVER, Clients, Runtime
from .site import IN_SESSION, Site

pytestmark = IN_SESSION

COMMANDS = {"deno": ("run", "--allow-all"), "bun": ("run",)}


@pytest.mark.parametrize("name", COMMANDS)
async def test_it_works_as_in_node(site: Site, name: str, tmp_path: Path) -> None:
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"there is no {name} on the PATH")
    site.server.on_message("DOUBLE")(lambda message, connection: message.data * 2)
    async with Runtime.running(program, *COMMANDS[name], str(DRIVER)) as runtime:
        clients = Clients(runtime)
        options = {"interval": 0.5, "timeout": 1}
        path = str(tmp_path / "positions.json")
        alice = await clients.client(site.url, token=["alice"], positions=path, keepalive=options)
        await site.dispatch(1)
        assert await alice.heard(1) == [1]
        assert await alice.request("DOUBLE", 2) == 4
        site.cut()
        await until(lambda: alice.states[-1] != "open")
        await alice.noted("state", len(alice.states) + 2)  # its attempts fail
        sending = alice.send("N", 1)
        await site.dispatch(2)
        site.mend()
        await sending
        assert await alice.heard(2) == [1, 2]
        await until(lambda: site.received == [1])
        site.connection.disconnect(4000, "because")
        await site.dispatch(3)
        assert await alice.heard(3) == [1, 2, 3]
        site.silence()
        await site.dispatch(4)
        assert await alice.heard(4) == [1, 2, 3, 4]
        ended = {
            state["code"]: state["reason"] for state in alice.all("state") if state["state"] == "waiting"
        }
        assert ended == {1006: "", 4000: "because", 4001: "no keepalive"}
        expired = await clients.client(site.url, token="bad")
        [refused] = await expired.noted("closed")
        assert (refused["code"], refused["error"]["code"]) == (1008, "refused")
        await clients.aclose()
        assert alice.all("saved")[-1]["s"] == 4
    assert alice.all("lost", "reset", "forked", "error") == []
