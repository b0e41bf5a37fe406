"""One of two replicas is promoted: what the other one confirms for the old master is rolled back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import redis.asyncio

from mesa_ws import AsyncDispatcher, BackendUnavailable, Dispatcher, Message, Receipt
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.backend.redis_client import master
from tests.contract.cluster import LIMIT
from tests.fake_sentinel import FakeSentinel
from tests.redis_server import RedisServer
from tests.system.redis.replicated import Replicated, until_followed
from tests.system.waiting import until

STORED = Message(0, "x", "STORED")


class Site:
    """A master with two replicas, and Sentinels that name it.

    Args:
        redises: the master and the replicas.
        namespace: of the messages.
        stack: closes what is opened.
    """

    def __init__(self, redises: Replicated, namespace: str, stack: AsyncExitStack) -> None:
        self.redises = redises
        self.namespace = namespace
        self._stack = stack
        self.sentinels = [FakeSentinel(redises.master.port) for _ in range(3)]
        for each in self.sentinels:
            stack.callback(each.close)

    async def sender(self, kind: str, timeout: float = LIMIT, *, is_new: bool = False) -> "Sender":
        """A dispatcher of either kind; a new one knows nothing that was seen before, as in a new process."""
        order = reversed(self.sentinels) if is_new else self.sentinels
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in order)
        url = f"redis+sentinel://{hosts}/mymaster"
        if kind == "asyncio":
            own = AsyncDispatcher(url, namespace=self.namespace, sync=True, timeout=timeout)
            return Sender(await self._stack.enter_async_context(own))
        blocking = Dispatcher(url, namespace=self.namespace, sync=True, timeout=timeout)
        return Sender(self._stack.enter_context(blocking))

    async def stored(self, server: RedisServer) -> int:
        """How many messages a Redis holds for alice."""
        async with redis.asyncio.Redis.from_url(server.url) as client:
            return int(await client.llen(Keys(self.namespace).outbox("alice")))

    async def until_confirmed(self, replica: RedisServer, count: int) -> None:
        """Wait until the master knows that the only replica that follows it holds so many messages."""

        async def is_there() -> bool:
            return await self.stored(replica) == count

        await until(is_there)
        await until_followed(self.redises.master, 1)

    def name(self, server: RedisServer) -> None:
        """Let Sentinels name another master."""
        for each in self.sentinels:
            each.switch(server.port, 2)


class Sender:
    """A dispatcher of either kind."""

    def __init__(self, dispatcher: AsyncDispatcher | Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def store(self, key: str) -> Receipt:
        """Store a message for alice so that replicas have it."""
        if isinstance(self._dispatcher, AsyncDispatcher):
            return await self._dispatcher.dispatch(
                STORED, ["alice"], durability="replicated", idempotency_key=key
            )
        return await asyncio.to_thread(
            self._dispatcher.dispatch, STORED, ["alice"], durability="replicated", idempotency_key=key
        )


@pytest.fixture(params=["asyncio", "threads"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which dispatcher."""
    return str(request.param)


@pytest.fixture
async def site(tmp_path: Path, release: str, namespace: str) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        redises = await stack.enter_async_context(Replicated.running(tmp_path, release, 2))
        yield Site(redises, namespace, stack)


@pytest.mark.parametrize("is_new", [False, True], ids=["running", "new"])
async def test_what_one_replica_confirms_when_the_other_was_promoted_is_not_lost(
    site: Site, kind: str, is_new: bool
) -> None:
    first, second = site.redises.replicas
    for each in site.sentinels:
        each.replicas = 2
    sender = await site.sender(kind)
    await sender.store("one")
    await site.redises.promote(first)
    await until_followed(site.redises.master, 1)
    if is_new:
        sender = await site.sender(kind, is_new=True)
    storing = asyncio.create_task(sender.store("two"))
    await site.until_confirmed(second, 2)
    await site.redises.promote(first, second)
    site.name(first)
    assert (await storing).deliveries["alice"].stored
    assert await site.stored(first) == 2


async def test_a_replica_that_has_only_died_is_missed_for_a_moment(
    site: Site, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(master, "HOLD", 0.2)
    sender = await site.sender(kind)
    await sender.store("one")
    site.redises.replicas[0].stop()
    await until_followed(site.redises.master, 1)
    asked = [each.asked for each in site.sentinels]
    for key in ("two", "three"):
        assert (await sender.store(key)).deliveries["alice"].stored
    assert all(each.asked > before for each, before in zip(site.sentinels, asked, strict=True))


async def test_nothing_is_confirmed_while_a_replica_is_missing_and_sentinels_are_out_of_reach(
    site: Site, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(master, "HOLD", 0.2)
    sender = await site.sender(kind, timeout=2.0)
    await sender.store("one")
    site.redises.replicas[0].stop()
    await until_followed(site.redises.master, 1)
    for each in site.sentinels[:2]:
        each.answers.clear()
    with pytest.raises(BackendUnavailable) as caught:
        await sender.store("two")
    assert caught.value.maybe_sent
    for each in site.sentinels[:2]:
        each.answers.set()

    async def is_confirmed() -> bool:
        try:
            return (await sender.store("two")).deliveries["alice"].stored
        except BackendUnavailable:
            return False

    await until(is_confirmed)
    assert await site.stored(site.redises.master) == 2
