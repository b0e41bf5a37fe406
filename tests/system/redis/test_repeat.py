"""Dispatches that Redis remembers are sent again when their connection broke; others never are."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from msgspec.structs import replace

from mesa_ws.backend.queries import Peek
from mesa_ws.backend.redis import AsyncRedisBus, RedisBackend
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.errors import BackendUnavailable
from mesa_ws.messages.envelope import Envelope, Retention, prepare
from mesa_ws.messages.message import Message
from tests.contract.cluster import LIMIT, Node, heard
from tests.system.proxy import Proxy
from tests.system.redis.conftest import Dispatch
from tests.system.waiting import until

KEEP = Retention(100, 1_000_000, 60.0)


def kept(data: object) -> Envelope:
    return prepare(Message(0, data), ["alice"], retention=KEEP)


def passing(data: object) -> Envelope:
    return prepare(Message(0, data), ["alice"])


@pytest.fixture
async def node(redis_url: str, namespace: str) -> AsyncIterator[Node]:
    """A node that holds alice."""
    node = Node(RedisBackend(redis_url, namespace=namespace))
    await node.backend.open(node.receive)
    await node.backend.attach("alice", 1)
    yield node
    await node.backend.aclose()


async def test_a_stored_message_whose_reply_was_lost_is_sent_again_and_stored_once(
    dispatch: Dispatch, node: Node, proxy: Proxy
) -> None:
    await dispatch([kept("first")])
    proxy.loses_replies = True
    sent = kept("second")
    sending = dispatch([sent])
    await node.until(sent.message_id)
    proxy.loses_replies = False
    proxy.cut()
    (receipt,) = await sending
    (envelopes,) = await heard(node)
    position = receipt.deliveries["alice"].position
    assert position is not None
    assert position.sequence == 2
    assert [envelope.message_id for envelope in envelopes].count(sent.message_id) == 1
    assert len(await node.backend.query(Peek("alice", 10))) == 2


async def test_a_message_that_is_not_stored_is_not_sent_again(
    dispatch: Dispatch, node: Node, proxy: Proxy
) -> None:
    await dispatch([passing("first")])
    proxy.loses_replies = True
    sent = passing("second")
    sending = dispatch([sent, kept("third")])
    await node.until(sent.message_id)
    proxy.loses_replies = False
    proxy.cut()
    with pytest.raises(BackendUnavailable, match="the connection was lost") as caught:
        await sending
    assert caught.value.maybe_sent
    (envelopes,) = await heard(node)
    assert [envelope.message_id for envelope in envelopes].count(sent.message_id) == 1


async def test_a_message_is_sent_again_until_its_time_is_over(
    node: Node, proxy: Proxy, namespace: str
) -> None:
    bus = AsyncRedisBus(proxy.url, namespace=namespace, timeout=1.0)
    await bus.dispatch([kept("first")])
    proxy.loses_replies = True
    sent = kept("second")
    sending = asyncio.ensure_future(bus.dispatch([sent]))
    await node.until(sent.message_id)

    def is_over() -> bool:
        proxy.cut()
        return sending.done()

    await until(is_over)
    with pytest.raises(BackendUnavailable) as caught:
        await sending
    assert caught.value.maybe_sent
    await bus.aclose()
    assert len(await node.backend.query(Peek("alice", 10))) == 2


async def test_a_message_that_redis_may_have_forgotten_is_not_sent_again(
    dispatch: Dispatch, node: Node, proxy: Proxy, redis_url: str, namespace: str
) -> None:
    await dispatch([kept("first")])
    proxy.loses_replies = True
    sent = replace(kept("second"), remember=2.0)
    sending = dispatch([sent])
    await node.until(sent.message_id)
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        while await client.exists(Keys(namespace).done(sent.message_id)):
            await asyncio.sleep(0.01)
    proxy.loses_replies = False
    proxy.cut()
    with pytest.raises(BackendUnavailable) as caught:
        await sending
    assert caught.value.maybe_sent
    assert len(await node.backend.query(Peek("alice", 10))) == 2


async def test_messages_that_are_sent_again_stay_in_order(node: Node, proxy: Proxy, namespace: str) -> None:
    bus = AsyncRedisBus(proxy.url, namespace=namespace, timeout=LIMIT)
    await bus.dispatch([kept("first")])
    proxy.loses_replies = True
    sent = [kept(n) for n in range(300)]
    sending = [asyncio.ensure_future(bus.dispatch([envelope])) for envelope in sent]
    await node.until(sent[0].message_id)
    proxy.loses_replies = False
    proxy.cut()
    receipts = [receipt for (receipt,) in await asyncio.gather(*sending)]
    await bus.aclose()
    numbers = [receipt.deliveries["alice"].position.sequence for receipt in receipts]  # type: ignore[union-attr]
    assert numbers == list(range(2, 302))
