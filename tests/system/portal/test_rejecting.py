"""Bad input that a handler of a portal refuses for good."""

import logging
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis.asyncio import Redis

from mesa_ws import Client, Message, PortalEvent, Reject, RequestFailed
from mesa_ws.backend.inbox import PortalConsumer
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.errors import BackendUnavailable, InvalidSettings
from mesa_ws.portal import handling
from tests.system.portal.conftest import Site
from tests.system.server.peer import LIMIT
from tests.system.waiting import until

BAD = Message(0, {"n": "x"}, "SAVE")
GOOD = Message(0, {"n": 1}, "SAVE")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers that raised are called again soon."""
    monkeypatch.setattr(handling, "FIRST_PAUSE", 0.001)


def consumer_of(portal: Any) -> PortalConsumer:
    attendance: PortalConsumer = portal._source._consumer
    return attendance


class Shop:
    """A portal that takes numbers, and what became of what it was given."""

    def __init__(self, site: Site, **options: Any) -> None:
        self.portal = site.portal(**options)
        self.called: list[tuple[object, int]] = []
        self.later: list[object] = []
        self.errors: list[tuple[Exception, PortalEvent]] = []
        self.rejected: list[tuple[Reject, PortalEvent]] = []
        self.portal.on_message("SAVE")(self.save)
        self.portal.on_message(self.see)
        self.portal.on_error(lambda error, event: self.errors.append((error, event)))
        self.portal.on_rejected(lambda rejection, event: self.rejected.append((rejection, event)))

    async def save(self, event: PortalEvent) -> None:
        assert event.message is not None
        self.called.append((event.message.data["n"], event.deliveries))
        if not isinstance(event.message.data["n"], int):
            raise Reject("'n' is no number", "bad_number")

    async def see(self, event: PortalEvent) -> str:
        assert event.message is not None
        self.later.append(event.message.data["n"])
        return "saved"


async def test_what_is_rejected_is_neither_handled_again_nor_kept(
    site: Site, client: Client, at_once: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mesa_ws.portal")
    shop = Shop(site)
    portal = await site.start(shop.portal)
    for message in (BAD, GOOD, BAD):
        await client.send(message)
    await until(lambda: len(shop.rejected) == 2)
    assert shop.called == [("x", 1), (1, 1), ("x", 1)]
    assert shop.later == [1], "no handler is called behind the one that rejects"
    assert shop.errors == []
    assert portal.rejected == 2
    rejection, event = shop.rejected[0]
    assert (rejection.text, rejection.code, event.message) == ("'n' is no number", "bad_number", BAD)

    async def is_counted() -> bool:
        backlog = await consumer_of(portal).backlog()
        return (backlog.rejected, backlog.waiting, backlog.dead) == (2, 0, 0)

    await until(is_counted)
    told = [record for record in caplog.records if "rejected" in record.getMessage()]
    assert [record.levelname for record in told] == ["INFO"] * 2
    assert "bad_number" in told[0].getMessage()
    assert "is no number" in told[0].getMessage()


async def test_who_asked_is_told_why(site: Site, client: Client) -> None:
    shop = Shop(site)
    await site.start(shop.portal)
    with pytest.raises(RequestFailed) as caught:
        await client.request(BAD, LIMIT)
    assert (caught.value.code, caught.value.text) == ("bad_number", "'n' is no number")
    assert (await client.request(GOOD, LIMIT)).data == "saved"
    await until(lambda: len(shop.rejected) == 1)
    assert shop.rejected[0][1].request is not None


async def test_a_plain_function_may_reject(site: Site, client: Client) -> None:
    portal, told = site.portal(), list[str]()

    @portal.on_message
    def on_message(event: PortalEvent) -> None:
        raise Reject("no")

    @portal.on_rejected
    def on_rejected(rejection: Reject, event: PortalEvent) -> None:
        told.append(rejection.code)

    await site.start(portal)
    await client.send(BAD)
    await until(lambda: told == ["rejected"])


@pytest.mark.parametrize("kind", ["connection", "authentication", "disconnection"])
async def test_any_event_may_be_rejected(site: Site, kind: str, at_once: None) -> None:
    await site.serve()
    portal, seen, rejected = site.portal(), list[str](), list[str]()

    @portal.on_connection
    @portal.on_authentication
    @portal.on_disconnection
    async def handle(event: PortalEvent) -> None:
        seen.append(event.type)
        if event.type == kind:
            raise Reject("not known here")

    portal.on_rejected(lambda rejection, event: rejected.append(event.type))
    await site.start(portal)
    peer = await site.join("alice")
    await peer.socket.close(1000)
    await until(lambda: len(seen) == 3)
    await until(lambda: rejected == [kind])
    assert seen == ["connection", "authentication", "disconnection"]


async def test_a_hook_that_raises_changes_nothing(
    site: Site, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(site)

    @shop.portal.on_rejected
    async def broken(rejection: Reject, event: PortalEvent) -> None:
        raise ValueError("broken")

    last = list[object]()
    shop.portal.on_rejected(lambda rejection, event: last.append(rejection))
    await site.start(shop.portal)
    await client.send(BAD)
    await until(lambda: len(last) == 1)
    assert shop.called == [("x", 1)]
    assert "on_rejected handler" in caplog.text


async def test_a_rejection_whose_answer_cannot_be_sent_is_told_once(
    site: Site, client: Client, at_once: None
) -> None:
    shop = Shop(site)
    portal = await site.start(shop.portal)
    work: Any = portal._source
    reply, failed = work.reply, list[bool]()

    async def away_once(*arguments: Any) -> bool:
        if not failed:
            failed.append(True)
            raise BackendUnavailable("away")
        return bool(await reply(*arguments))

    work.reply = away_once
    with pytest.raises(RequestFailed, match="no number"):
        await client.request(BAD, LIMIT)
    assert shop.called == [("x", 1), ("x", 2)]
    await until(lambda: len(shop.rejected) == 1)
    assert portal.rejected == 1


async def test_what_only_looks_rejects_for_itself(site: Site, client: Client) -> None:
    observer, shop = Shop(site, report_all_events=True), Shop(site)
    await site.start(observer.portal)
    portal = await site.start(shop.portal)
    await client.send(BAD)
    await until(lambda: len(observer.rejected) == len(shop.rejected) == 1)
    assert (observer.portal.rejected, portal.rejected) == (1, 1)

    async def is_counted_once() -> bool:
        return (await consumer_of(portal).backlog()).rejected == 1

    await until(is_counted_once)


async def test_the_count_ends_a_month_after_the_last_one(redis_site: Site, stack: AsyncExitStack) -> None:
    await redis_site.serve()
    shop, client = Shop(redis_site), await stack.enter_async_context(Client(redis_site.url))
    await redis_site.start(shop.portal)
    await client.send(BAD)
    assert redis_site.redis_url is not None
    key = Keys(redis_site.namespace).rejected
    async with Redis.from_url(redis_site.redis_url) as redis:

        async def is_counted() -> bool:
            return await redis.get(key) == b"1"

        await until(is_counted)
        assert 29 * 86_400 < await redis.ttl(key) <= 30 * 86_400


def test_a_hook_has_to_take_a_rejection_and_an_event(site: Site) -> None:
    with pytest.raises(InvalidSettings, match=r"handler\(rejection, event\)"):
        site.portal().on_rejected(lambda event: None)
