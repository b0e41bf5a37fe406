"""What both dispatchers check before anything is sent."""

import asyncio
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mesa_ws.backend.presence import ClusterPresence
from mesa_ws.concurrency import blocking
from mesa_ws.dispatcher import AsyncDispatcher, Dispatch, Dispatcher
from mesa_ws.errors import (
    BackendUnavailable,
    InvalidInput,
    InvalidMessage,
    InvalidRecipients,
    InvalidSettings,
)
from mesa_ws.messages.message import DispatchEvent, Message
from mesa_ws.messages.receipt import Delivery, Position, Receipt
from mesa_ws.settings import Sync
from tests.ports import free_port

HELLO = Message(0, "hello", "HELLO")

Kind = type[Dispatcher] | type[AsyncDispatcher]

both = pytest.mark.parametrize("kind", [Dispatcher, AsyncDispatcher])


class Nowhere:
    """A dispatcher of either kind at an address without a listener, always awaited."""

    def __init__(self, kind: Kind, scheme: str = "redis", **settings: Any) -> None:
        self._dispatcher = kind(f"{scheme}://127.0.0.1:{free_port()}", **settings)

    async def dispatch(self, *arguments: Any) -> Receipt:
        receipt: Receipt = await self._call("dispatch", *arguments)
        return receipt

    async def dispatch_many(self, *arguments: Any) -> list[Receipt]:
        receipts: list[Receipt] = await self._call("dispatch_many", *arguments)
        return receipts

    async def online(self, ids: Any) -> None:
        presence = self._dispatcher.presence
        if isinstance(presence, ClusterPresence):
            await presence.online(ids)
        else:
            await asyncio.to_thread(presence.online, ids)

    async def close(self) -> None:
        if isinstance(self._dispatcher, AsyncDispatcher):
            await self._dispatcher.aclose()
        else:
            self._dispatcher.close()

    async def _call(self, name: str, *arguments: Any) -> Any:
        method: Callable[..., Any] = getattr(self._dispatcher, name)
        if isinstance(self._dispatcher, Dispatcher):
            return await asyncio.to_thread(method, *arguments)
        answer: Awaitable[Any] = method(*arguments)
        return await answer


@both
async def test_it_connects_when_it_is_first_used(kind: Kind) -> None:
    dispatcher = Nowhere(kind)
    with pytest.raises(BackendUnavailable, match=r"Connection refused.*; nothing was sent"):
        await dispatcher.dispatch(HELLO, ["0"])
    await dispatcher.close()


@both
async def test_messages_to_nobody_need_no_connection(kind: Kind) -> None:
    dispatcher = Nowhere(kind)
    receipt = await dispatcher.dispatch(HELLO, [])
    assert (receipt.deliveries, receipt.nodes) == ({}, 0)
    receipts = await dispatcher.dispatch_many([(HELLO, []), (HELLO, ["0"], ["0"])])
    assert [receipt.nodes for receipt in receipts] == [0, 0]
    assert await dispatcher.dispatch_many([]) == []


@both
@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((HELLO, "0"), InvalidRecipients, r"recipients: expected a list of ids, got the bare text '0'"),
        ((HELLO, None), InvalidRecipients, r"recipients: expected a list of ids, got None"),
        ((HELLO, [0]), InvalidRecipients, r"recipients: expected an id as text, got 0 \(int\); write '0'"),
        ((HELLO, ["0"], "1"), InvalidRecipients, r"excluding: expected a list of ids"),
        ((HELLO, ["*"], ["*"]), InvalidRecipients, r"excluding: .*stands for everybody"),
        ((Message(0, {1j}), ["0"]), InvalidMessage, r"data: expected something JSON can hold"),
        ((Message(1), ["0"]), InvalidMessage, r"opcode: expected one that the protocol does not use"),
        (({"t": "HELLO"}, ["0"]), InvalidMessage, r"message: expected a Message, got a value of type dict"),
        (
            (DispatchEvent("DISCONNECT_CLIENT"),),
            InvalidRecipients,
            r"recipients: DISCONNECT_CLIENT needs them",
        ),
    ],
)
async def test_what_cannot_be_sent_is_refused(
    kind: Kind, arguments: tuple[Any, ...], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        await Nowhere(kind).dispatch(*arguments)


@both
@pytest.mark.parametrize(
    "way",
    [{}, {"wire": "mesa1"}, {"scheme": "http", "key": "0123456789abcdef"}],
    ids=["redis", "mesa1", "http"],
)
@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ("anna", r"^ids: expected a list of ids, got the bare text 'anna'; write \['anna'\]$"),
        (None, r"^ids: expected a list of ids, got None"),
        (7, r"^ids: expected a list of ids, got 7 \(int\); write \['7'\]$"),
        (["0", 7], r"^ids: expected an id as text, got 7 \(int\); write '7'$"),
    ],
)
async def test_presence_follows_the_rules_of_recipients(
    kind: Kind, way: dict[str, Any], ids: Any, text: str
) -> None:
    with pytest.raises(InvalidRecipients, match=text):
        await Nowhere(kind, **way).online(ids)


@both
@pytest.mark.parametrize(
    "dispatch", [HELLO, [HELLO, ["0"]], (), (HELLO, ["0"], [], None, "memory", None, "more"), None]
)
async def test_a_batch_takes_only_tuples(kind: Kind, dispatch: object) -> None:
    with pytest.raises(InvalidInput, match=r"^dispatches\[1\]: expected \(message, recipients\)"):
        await Nowhere(kind).dispatch_many([(HELLO, []), dispatch])


@both
async def test_a_batch_says_which_dispatch_is_wrong(kind: Kind) -> None:
    with pytest.raises(InvalidRecipients, match="bare text") as caught:
        await Nowhere(kind).dispatch_many([Dispatch(HELLO), Dispatch(HELLO, "0")])
    assert caught.value.__notes__ == ["in dispatches[1]; nothing was sent"]


@both
@pytest.mark.parametrize("sync", [True, {"enabled": True}, Sync(enabled=True, ttl=60)])
def test_sync_may_be_turned_on_in_every_form(kind: Kind, sync: Any) -> None:
    kind(sync=sync)


@both
@pytest.mark.parametrize("sync", [False, {}, {"enabled": False}, Sync()])
def test_sync_may_be_turned_off_in_every_form(kind: Kind, sync: Any) -> None:
    kind(sync=sync)


@both
@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"sync": "yes"}, "^sync: expected "),
        ({"namespace": "a b"}, "^namespace: expected 1 to 64 of"),
        ({"timeout": 0}, "^timeout: expected a number of seconds"),
        ({"url": "localhost:6379"}, "^url: expected a Redis URI.*or the http://.*got 'localhost:6379'$"),
        ({"url": "ws://localhost:4000"}, "^url: expected a Redis URI.*or the http://.*dispatch API"),
        ({"url": "ws://h", "key": "0123456789abcdef"}, "^url: expected a Redis URI"),
        ({"url": None}, "^url: expected redis://"),
        ({"key": "0123456789abcdef"}, "^key: expected None with Redis.*got 'a key'"),
        ({"url": "http://localhost:4001"}, "^key: expected the key of the server's dispatch API"),
        ({"url": "HTTPS://localhost:4001"}, "^key: expected the key of the server's dispatch API"),
    ],
)
def test_a_wrong_setting_is_named(kind: Kind, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidSettings, match=text):
        kind(**settings)


@both
async def test_a_url_of_a_server_leads_to_its_api(kind: Kind) -> None:
    dispatcher = Nowhere(kind, scheme="http", key="0123456789abcdef")
    with pytest.raises(BackendUnavailable, match=r"cannot connect to the dispatch API at http://127.0.0.1"):
        await dispatcher.dispatch(HELLO)


@both
@pytest.mark.parametrize("recipients", [["0"], []])
async def test_after_closing_it_refuses_to_send(kind: Kind, recipients: list[str]) -> None:
    dispatcher = Nowhere(kind)
    await dispatcher.close()
    await dispatcher.close()
    with pytest.raises(BackendUnavailable, match=r"^the dispatcher is closed; nothing was sent$"):
        await dispatcher.dispatch(HELLO, recipients)


def test_a_context_closes_the_dispatcher() -> None:
    with Dispatcher() as dispatcher:
        pass
    with pytest.raises(BackendUnavailable, match="the dispatcher is closed"):
        dispatcher.dispatch(HELLO)


async def test_a_context_closes_the_asyncio_dispatcher() -> None:
    async with AsyncDispatcher() as dispatcher:
        pass
    with pytest.raises(BackendUnavailable, match="the dispatcher is closed"):
        await dispatcher.dispatch(HELLO)


async def test_blocking_an_event_loop_warns_once_where_it_happens() -> None:
    blocking._HAS_WARNED.clear()
    dispatcher = Dispatcher()
    with pytest.warns(RuntimeWarning, match="use AsyncDispatcher in asyncio") as caught:
        dispatcher.dispatch(HELLO, [])
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dispatcher.dispatch(HELLO, [])


STORED = Receipt("m", {"0": Delivery(True, 0, None, Position("e", 1))}, 0)

BLOCKING: dict[str, Callable[[Dispatcher], object]] = {
    "dispatch": lambda dispatcher: dispatcher.dispatch(HELLO, ["0"]),
    "dispatch_many": lambda dispatcher: dispatcher.dispatch_many([(HELLO, ["0"])]),
    "request": lambda dispatcher: dispatcher.request("0", HELLO),
    "status": lambda dispatcher: dispatcher.status(STORED),
    "presence.online": lambda dispatcher: dispatcher.presence.online(["0"]),
    "presence.count": lambda dispatcher: dispatcher.presence.count(),
    "presence.connections": lambda dispatcher: dispatcher.presence.connections(),
    "presence.ids": lambda dispatcher: next(dispatcher.presence.ids()),
}


@pytest.mark.parametrize("call", BLOCKING.values(), ids=BLOCKING)
@pytest.mark.parametrize("way", [{}, {"key": "0123456789abcdef"}], ids=["redis", "http"])
async def test_every_call_that_blocks_an_event_loop_warns(
    call: Callable[[Dispatcher], object], way: dict[str, Any]
) -> None:
    blocking._HAS_WARNED.clear()
    dispatcher = Dispatcher(f"{'http' if way else 'redis'}://127.0.0.1:1", **way)
    with (
        pytest.warns(RuntimeWarning, match="use AsyncDispatcher in asyncio") as caught,
        pytest.raises(BackendUnavailable),
    ):
        call(dispatcher)
    assert caught[0].filename == __file__


async def test_looking_for_presence_in_an_event_loop_is_no_call() -> None:
    blocking._HAS_WARNED.clear()
    presence = Dispatcher("redis://127.0.0.1:1").presence
    with pytest.raises(BackendUnavailable):
        await asyncio.to_thread(presence.online, ["0"])
    assert not blocking._HAS_WARNED.is_set()


def test_without_an_event_loop_there_is_no_warning() -> None:
    blocking._HAS_WARNED.clear()
    Dispatcher().dispatch(HELLO, [])
    assert not blocking._HAS_WARNED.is_set()


def test_a_wrong_option_of_a_redis_is_named_alone() -> None:
    with pytest.raises(
        InvalidSettings, match=r"^redis\.ssl_cert_reqs: expected none, optional or required, got"
    ):
        Dispatcher("rediss://h?ssl_cert_reqs=never")
