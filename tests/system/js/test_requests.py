"""Requests from and to a JavaScript client."""

import asyncio
from typing import Any

import pytest

from mesa_ws import Connection, Message, RequestError, RequestFailed, Unanswered
from tests.system.waiting import until

from .runtime import Clients, JsError
from .site import IN_SESSION, ResumeState, Site, believing

pytestmark = IN_SESSION


async def refused(asking: asyncio.Future[Any]) -> tuple[str | None, str | None]:
    """Return the class and the code of the error of a request."""
    with pytest.raises(JsError) as raised:
        await asking
    return raised.value.name, raised.value.code


async def test_handlers_of_the_server_answer(js: Clients, site: Site) -> None:
    site.server.on_message("DOUBLE")(lambda message, connection: message.data * 2)

    @site.server.on_message("ROOM")
    async def room(message: Message, connection: Connection) -> None:
        if message.data:
            raise RequestError("no such room", code="no_room")
        raise LookupError("secret")

    at_once = {await js.client(site.url, token="alice"): 20, await js.client(site.url): 8}
    for client, count in at_once.items():
        answers = await asyncio.gather(*(client.request("DOUBLE", n) for n in range(count)))
        assert answers == list(range(0, 2 * count, 2))
        with pytest.raises(JsError, match="no such room") as raised:
            await client.request("ROOM", 7)
        assert (raised.value.name, raised.value.code) == ("RequestError", "no_room")
        with pytest.raises(JsError, match=r"^(?!.*secret)") as raised:
            await client.request("ROOM")
        assert (raised.value.name, raised.value.code) == ("RequestError", "failed")
        assert await refused(client.request("UNANSWERED")) == ("RequestError", "unanswered")
        assert await refused(client.request("X", opcode=22)) == ("MesaError", "invalid")


async def test_a_request_is_given_up_in_time_or_with_its_connection(js: Clients, site: Site) -> None:
    asked: list[int] = []
    may_answer = asyncio.Event()

    @site.server.on_message("SLOW")
    async def slow(message: Message, connection: Connection) -> Any:
        asked.append(message.data)
        await may_answer.wait()
        return message.data

    alice = await js.client(site.url, token="alice", watch=True)
    await alice.opened()
    assert await refused(alice.request("SLOW", 1, timeout=0.05)) == ("MesaError", "timeout")
    asking = alice.request("SLOW", 2)
    await until(lambda: [frame["d"] for frame in alice.all("sent") if frame["op"] == 0] == [1, 2])
    site.connection.disconnect()
    assert await refused(asking) == ("MesaError", "closed")
    await alice.opened(2)
    may_answer.set()
    assert await alice.request("SLOW", 3) == 3
    site.cut()
    await until(lambda: alice.states[-1] != "open")
    assert await refused(alice.request("SLOW", 4, timeout=0.05)) == ("MesaError", "timeout")
    site.mend()
    assert await alice.request("SLOW", 5) == 5
    assert [n for n in asked if n > 2] == [3, 5]


async def test_handlers_of_the_client_answer(js: Clients, site: Site) -> None:
    handlers = """
        mesa.on("*", (data) => note("message", { data }));
        mesa.onRequest("DOUBLE", (data) => { note("first", data); });
        mesa.onRequest("DOUBLE", async (data) => data * 2);
        mesa.onRequest("ROOM", (data) => {
            if (data) throw new RequestError("no_room", "no such room");
            throw new Error("secret");
        });
        const remove = mesa.onRequest("*", (data, { type }) => {
            if (type != "REMOVE") return;
            remove();
            return "removed";
        });
    """
    alice = await js.client(site.url, handlers, token="alice")
    await alice.opened()

    async def ask(type: str, data: Any = None) -> Any:
        return (await site.server.request("alice", Message(0, data, type))).data

    assert await asyncio.gather(*(ask("DOUBLE", n) for n in range(10))) == list(range(0, 20, 2))
    assert alice.all("first") == list(range(10))
    with pytest.raises(RequestFailed, match="no such room") as raised:
        await ask("ROOM", 7)
    assert raised.value.code == "no_room"
    with pytest.raises(RequestFailed, match=r"^(?!.*secret)") as raised:
        await ask("ROOM")
    assert raised.value.code == "failed"
    assert await alice.noted("error") == [{"name": "Error", "text": "secret"}]
    assert await ask("REMOVE") == "removed"
    with pytest.raises(Unanswered):
        await ask("REMOVE")
    assert alice.messages == []


ASKING = """
    mesa.on("M", async (n) => {
        note("began", n);
        if (n == 1) await new Promise((go) => Object.assign(state, { go }));
        note("answered", await mesa.request("DOUBLE", n));
        await mesa.send("N", n);
    });
"""


async def test_a_message_handler_may_ask_also_where_that_waits_for_the_next_connection(
    js: Clients, stand: ResumeState
) -> None:
    site = await stand(believing(limits={"max_queued": 1, "max_requests": 1}))

    @site.server.on_message("DOUBLE")
    async def double(message: Message, connection: Connection) -> int:
        own = await site.server.request("alice", Message(0, message.data, "OWN"))
        return 2 * int(own.data)

    alice = await js.client(site.url, ASKING + "mesa.onRequest('OWN', (n) => n);", token="alice")
    await site.dispatch(1, 2, 3)
    await alice.noted("began")
    site.cut()
    await until(lambda: alice.states[-1] != "open")
    await alice.evaluate("state.go()")
    await site.dispatch(4)
    site.mend()
    assert await alice.noted("answered", 4) == [2, 4, 6, 8]
    assert alice.all("began") == [1, 2, 3, 4]
    await site.until_acknowledged(4)
    assert site.received == [1, 2, 3, 4]
    assert alice.states.count("open") == 2
