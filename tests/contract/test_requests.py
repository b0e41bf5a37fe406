"""Requests to an id reach the nodes that hold it, and replies reach the requester."""

import asyncio

import pytest

from mesa_ws.backend.pending import Pending
from mesa_ws.errors import (
    BackendUnavailable,
    NotConnected,
    RequestFailed,
    TimedOut,
    TooManyRequests,
    Unanswered,
)
from mesa_ws.messages.envelope import Envelope
from mesa_ws.messages.frames import encode_frame
from mesa_ws.messages.message import Message
from mesa_ws.messages.request import GONE, MAX_REQUESTS, UNANSWERED, Failure, Question, Reply, prepare_request
from tests.contract.cluster import LIMIT, Cluster, Node, heard

ANSWER = encode_frame(0, "answer")


def request(id: str = "alice") -> Envelope:
    return prepare_request(id, Message(0, {"n": 1}, "PING"))


async def question(node: Node, number: int = 1) -> tuple[Envelope, Question]:
    """Wait until a node has received `count` requests, and return them."""
    async with asyncio.timeout(LIMIT):
        while True:
            asked = [envelope for envelope in node.received if envelope.kind == "request"]
            if len(asked) >= number:
                break
            await asyncio.sleep(0.005)
    read = Question.read(asked[number - 1].body)
    assert read is not None
    return asked[number - 1], read


async def reply(node: Node, given: bytes | Failure, number: int = 1) -> None:
    """Make a node reply to a request."""
    envelope, asked = await question(node, number)
    id = envelope.message_id
    answer = Reply.failed(id, given) if isinstance(given, Failure) else Reply(id, given)
    node.backend.reply(asked.requester, answer)


async def test_the_answer_comes_back_to_another_node(cluster: Cluster) -> None:
    holder, asker, other = await cluster.node({"alice": 1}), await cluster.node(), await cluster.node()
    asking = asyncio.create_task(asker.backend.request(request(), LIMIT))
    envelope, asked = await question(holder)
    assert envelope.recipients.ids == ("alice",)
    assert asked.body == b'{"op":0,"d":{"n":1},"t":"PING"}'
    assert asked.timeout == LIMIT
    await reply(holder, ANSWER)
    assert await asking == ANSWER
    assert (await heard(other))[0] == []


async def test_a_node_may_send_a_request_to_itself(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1})
    asking = asyncio.create_task(node.backend.request(request(), LIMIT))
    await reply(node, ANSWER)
    assert await asking == ANSWER


async def test_a_request_to_an_absent_id_is_refused(cluster: Cluster) -> None:
    node = await cluster.node({"bob": 1})
    with pytest.raises(NotConnected, match="'alice'"):
        await node.backend.request(request(), LIMIT)


async def test_the_first_node_with_an_answer_counts(cluster: Cluster) -> None:
    first, second = await cluster.node({"alice": 1}), await cluster.node({"alice": 2})
    asking = asyncio.create_task(first.backend.request(request(), LIMIT))
    await question(second)
    await reply(first, UNANSWERED)
    await reply(second, ANSWER)
    assert await asking == ANSWER


async def test_when_no_node_has_one_the_most_telling_error_counts(cluster: Cluster) -> None:
    first, second = await cluster.node({"alice": 1}), await cluster.node({"alice": 1})
    asking = asyncio.create_task(first.backend.request(request(), LIMIT))
    await reply(first, GONE)
    await reply(second, UNANSWERED)
    with pytest.raises(Unanswered):
        await asking


async def test_a_deliberate_error_is_an_answer(cluster: Cluster) -> None:
    first, second = await cluster.node({"alice": 1}), await cluster.node({"alice": 1})
    asking = asyncio.create_task(first.backend.request(request(), LIMIT))
    await question(first)
    await reply(second, Failure("no_room", "why"))
    with pytest.raises(RequestFailed, match="why"):
        await asking


async def test_without_a_reply_the_time_runs_out(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1})
    with pytest.raises(TimedOut, match=r"0\.2 s"):
        await node.backend.request(request(), 0.2)
    await reply(node, b"late")
    asking = asyncio.create_task(node.backend.request(request(), LIMIT))
    await reply(node, ANSWER, 2)
    assert await asking == ANSWER


async def test_replies_find_their_requests(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1})
    asking = [asyncio.create_task(node.backend.request(request(), LIMIT)) for _ in range(3)]
    await question(node, 3)
    for number in (3, 1, 2):
        envelope, _ = await question(node, number)
        await reply(node, envelope.message_id.encode(), number)
    ids = [envelope.message_id for envelope in node.received]
    assert [answer.decode() for answer in await asyncio.gather(*asking)] == ids


async def test_a_request_that_is_given_up_harms_no_other(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1})
    asking = asyncio.create_task(node.backend.request(request(), LIMIT))
    await question(node)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await reply(node, b"a reply without a requester")
    again = asyncio.create_task(node.backend.request(request(), LIMIT))
    await reply(node, ANSWER, 2)
    assert await again == ANSWER


async def test_a_closed_backend_sends_no_request(cluster: Cluster) -> None:
    node = await cluster.node({"alice": 1})
    asking = asyncio.create_task(node.backend.request(request(), LIMIT))
    _, asked = await question(node)
    await node.backend.aclose()
    with pytest.raises(BackendUnavailable) as raised:
        await asking
    assert raised.value.maybe_sent
    node.backend.reply(asked.requester, Reply("unknown", ANSWER))


async def test_only_so_many_requests_may_wait() -> None:
    pending, hold = Pending(), asyncio.Event()

    async def never(question: Envelope) -> None:
        await hold.wait()

    asking = [
        asyncio.create_task(pending.ask(request(), "x", LIMIT, never))  # type: ignore[arg-type]
        for _ in range(MAX_REQUESTS)
    ]
    await asyncio.sleep(0)
    with pytest.raises(TooManyRequests, match=str(MAX_REQUESTS)):
        await pending.ask(request(), "x", LIMIT, never)  # type: ignore[arg-type]
    for task in asking:
        task.cancel()
    await asyncio.wait(asking)
    assert len(pending) == 0
