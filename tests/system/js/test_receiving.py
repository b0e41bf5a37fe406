"""Messages at the handlers of a JavaScript client, and their acknowledgement."""

from mesa_ws import Message

from .runtime import Clients
from .site import IN_SESSION, Site

pytestmark = IN_SESSION


async def test_every_message_arrives_in_order_at_those_it_is_for(js: Clients, site: Site) -> None:
    alice = await js.client(site.url.replace("ws:", "http:"), token="alice")
    bob = await js.client(site.url, token={"token": "bob"})
    anonymous = await js.client(site.url)
    for client in (alice, bob, anonymous):
        await client.opened()
    for n in range(0, 100, 4):
        await site.dispatch(n)
        await site.dispatch(n + 1, sync=False)
        await site.dispatch(n + 2, to="bob")
        await site.dispatch(n + 3, to="*", type="ALL")
    odd = {"ü": [1.5, None, "🎈"], "__proto__": {}}
    await site.server.send(Message(77, odd), ["*"])
    own = {
        alice: [n for n in range(100) if n % 4 < 2],
        bob: list(range(2, 100, 4)),
        anonymous: [],
    }
    for client, expected in own.items():
        messages = await client.noted("message", len(expected) + 26)
        assert [each["data"] for each in messages if each["type"] == "M"] == expected
        assert [each["data"] for each in messages if each["type"] == "ALL"] == list(range(3, 100, 4))
        assert [each for each in messages if each["opcode"]] == [{"opcode": 77, "data": odd, "type": None}]
    assert [each.get("sequence") for each in alice.all("message") if each["type"] == "M"] == [
        n // 2 + 1 if n % 2 == 0 else None for n in range(50)
    ]


async def test_handlers_get_one_message_after_the_other_of_the_types_that_they_are_for(
    js: Clients, site: Site
) -> None:
    handlers = """
        mesa.on("A", (data) => note("A", data));
        const remove = mesa.on("*", (data) => {
            note("*", data);
            if (data == 3) remove();
        });
        mesa.on("B", async (data) => {
            await new Promise((then) => setTimeout(then, 5));
            note("B", data);
            throw new Error("no more");
        });
    """
    alice = await js.client(site.url, handlers, token="alice")
    for n, type in enumerate("ABCAB", 1):
        await site.dispatch(n, type=type)
    await alice.noted("error", 2)
    assert [event for event in alice.events if event.kind in {"A", "B", "*"}] == [
        ("A", 1),
        ("*", 1),
        ("*", 2),
        ("B", 2),
        ("*", 3),
        ("A", 4),
        ("B", 5),
    ]
    assert alice.all("error") == [{"name": "Error", "text": "no more"}] * 2
    await site.until_acknowledged(5)


async def test_a_loop_takes_messages_until_it_is_left_and_another_one_goes_on(
    js: Clients, site: Site
) -> None:
    alice = await js.client(site.url, "", token="alice")
    leaving = alice.evaluate("for await (const { data } of mesa) if (note('took', data), data == 2) break;")
    await site.dispatch(1, 2, 3, 4)
    await leaving
    await site.until_acknowledged(2)
    going_on = alice.evaluate(
        """
        for await (const { data } of mesa) {
            note("took", data);
            if (data == 4) await new Promise((next) => Object.assign(state, { next }));
        }
        """
    )
    await alice.noted("took", 4)
    await site.until_acknowledged(3)
    await alice.evaluate("state.next()")
    await site.until_acknowledged(4)
    await alice.close()
    await going_on
    assert alice.all("took") == [1, 2, 3, 4]


async def test_a_message_is_acknowledged_when_its_handler_has_finished(js: Clients, site: Site) -> None:
    handler = """
        mesa.on("M", async (n) => {
            note("began", n);
            if (n == 2) await new Promise((finish) => Object.assign(state, { finish }));
        });
    """
    alice = await js.client(site.url, handler, token="alice")
    await site.dispatch(1, 2, 3)
    await alice.noted("began", 2)
    await site.until_acknowledged(1)
    assert alice.all("began") == [1, 2]
    await alice.evaluate("state.finish()")
    await site.until_acknowledged(3)
    assert alice.all("began") == [1, 2, 3]
