"""Both dispatchers over a real Redis."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mesa_ws.backend.redis import RedisBackend
from mesa_ws.dispatcher import AsyncDispatcher, Dispatch, Dispatcher
from mesa_ws.messages.message import DispatchEvent, Message
from mesa_ws.messages.receipt import Delivery, Receipt
from mesa_ws.messages.recipients import Recipients
from tests.contract.cluster import LIMIT, Node, heard

HELLO = Message(0, {"text": "hello"}, "HELLO")

FORKED = """
import os, sys
from mesa_ws.dispatcher import Dispatcher
from mesa_ws.messages.message import Message

dispatcher = Dispatcher(sys.argv[1], namespace=sys.argv[2])
dispatcher.dispatch(Message(0, "before"), ["alice"])
child = os.fork()
receipt = dispatcher.dispatch(Message(0, "parent" if child else "child"), ["alice"])
assert receipt.deliveries["alice"].online == 1
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

TWO_LOOPS = """
import asyncio, sys
from mesa_ws.dispatcher import AsyncDispatcher
from mesa_ws.messages.message import Message

dispatcher = AsyncDispatcher(sys.argv[1], namespace=sys.argv[2])
for text in ("first", "second"):
    receipt = asyncio.run(dispatcher.dispatch(Message(0, text), ["alice"]))
    assert receipt.deliveries["alice"].online == 1
"""


@pytest.fixture
async def node(redis_url: str, namespace: str) -> AsyncIterator[Node]:
    """A node that holds alice and bob."""
    node = Node(RedisBackend(redis_url, namespace=namespace))
    await node.backend.open(node.receive)
    for id in ("alice", "bob"):
        await node.backend.attach(id, 1)
    yield node
    await node.backend.aclose()


class Sender:
    """Either dispatcher behind one async interface."""

    def __init__(self, dispatcher: Dispatcher | AsyncDispatcher) -> None:
        self._dispatcher = dispatcher

    async def dispatch(self, *arguments: Any) -> Receipt:
        if isinstance(self._dispatcher, AsyncDispatcher):
            return await self._dispatcher.dispatch(*arguments)
        return await asyncio.to_thread(self._dispatcher.dispatch, *arguments)

    async def dispatch_many(self, dispatches: list[Any]) -> list[Receipt]:
        if isinstance(self._dispatcher, AsyncDispatcher):
            return await self._dispatcher.dispatch_many(dispatches)
        return await asyncio.to_thread(self._dispatcher.dispatch_many, dispatches)


@pytest.fixture(params=[Dispatcher, AsyncDispatcher])
async def sender(request: pytest.FixtureRequest, redis_url: str, namespace: str) -> AsyncIterator[Sender]:
    dispatcher = request.param(redis_url, namespace=namespace, timeout=LIMIT)
    yield Sender(dispatcher)
    if isinstance(dispatcher, AsyncDispatcher):
        await dispatcher.aclose()
    else:
        dispatcher.close()


def run(program: str, *arguments: str) -> None:
    """Run a program to its end, and assert that it succeeds."""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT * 3, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def test_a_message_reaches_its_recipients_and_has_a_receipt(sender: Sender, node: Node) -> None:
    receipt = await sender.dispatch(HELLO, ["alice", "bob", "away"], ["bob"])
    ((envelope,),) = await heard(node)
    assert envelope.recipients == Recipients(False, ("alice",), frozenset())
    assert envelope.body == b'{"op":0,"d":{"text":"hello"},"t":"HELLO"}'
    assert receipt == Receipt(
        envelope.message_id, {"alice": Delivery(False, 1, None), "away": Delivery(False, 0, "offline")}, 1
    )


async def test_without_recipients_a_message_is_for_everybody(sender: Sender, node: Node) -> None:
    receipt = await sender.dispatch(HELLO)
    ((envelope,),) = await heard(node)
    assert envelope.recipients.everybody
    assert (receipt.deliveries, receipt.nodes) == ({}, 1)


async def test_an_event_reaches_its_recipients(sender: Sender, node: Node) -> None:
    await sender.dispatch(DispatchEvent("DISCONNECT_CLIENT"), ["bob"])
    ((order, envelope),) = await heard(node)
    assert order.kind == "order"
    assert (envelope.kind, envelope.body, envelope.recipients.ids) == ("disconnect", b"", ("bob",))


async def test_a_batch_has_a_receipt_for_each_in_order(sender: Sender, node: Node) -> None:
    receipts = await sender.dispatch_many(
        [(HELLO, ["alice"]), (HELLO, []), (HELLO, ["away"]), Dispatch(HELLO, "*", ["bob"]), (HELLO,)]
    )
    (envelopes,) = await heard(node)
    assert [receipt.nodes for receipt in receipts] == [1, 0, 0, 1, 1]
    assert [envelope.message_id for envelope in envelopes] == [receipts[n].message_id for n in (0, 3, 4)]


async def test_cancelled_calls_do_not_mix_up_the_others(redis_url: str, namespace: str, node: Node) -> None:
    async with AsyncDispatcher(redis_url, namespace=namespace) as dispatcher:
        tasks = [asyncio.create_task(dispatcher.dispatch(HELLO, [f"id-{n}"])) for n in range(300)]
        for turn in range(6):
            await asyncio.sleep(0)
            for task in tasks[turn::7]:
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    answered = [(n, result) for n, result in enumerate(results) if isinstance(result, Receipt)]
    assert answered
    for n, receipt in answered:
        assert list(receipt.deliveries) == [f"id-{n}"]


async def test_a_forked_process_can_go_on_dispatching(redis_url: str, namespace: str, node: Node) -> None:
    await asyncio.to_thread(run, FORKED, redis_url, namespace)
    (envelopes,) = await heard(node)
    texts = [envelope.body for envelope in envelopes]
    assert texts[0] == b'{"op":0,"d":"before"}'
    assert sorted(texts[1:]) == [b'{"op":0,"d":"child"}', b'{"op":0,"d":"parent"}']


async def test_one_dispatcher_may_be_used_in_one_event_loop_after_another(
    redis_url: str, namespace: str, node: Node
) -> None:
    await asyncio.to_thread(run, TWO_LOOPS, redis_url, namespace)
    (envelopes,) = await heard(node)
    assert [envelope.body for envelope in envelopes] == [b'{"op":0,"d":"first"}', b'{"op":0,"d":"second"}']
