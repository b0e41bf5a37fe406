"""Recording dispatchers: what they accept, record and answer."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mesa_ws import (
    AsyncDispatcher,
    BackendUnavailable,
    Dispatch,
    Dispatcher,
    DispatchEvent,
    InvalidMessage,
    InvalidRecipients,
    InvalidSettings,
    Latest,
    Message,
    NotConnected,
    RequestFailed,
    Sync,
    TimedOut,
    Unsupported,
)
from mesa_ws.testing import Asked, AsyncRecordingDispatcher, Order, Recording, RecordingDispatcher

NOTE = Message(0, {"text": "hi"}, "NOTE")


class Both:
    """A recording dispatcher of either kind, used with `await`."""

    def __init__(self, kind: type[RecordingDispatcher | AsyncRecordingDispatcher], **options: Any) -> None:
        self.recording = kind(**options)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **options: Any) -> Any:
            target = self.recording
            for part in name.split("__"):
                target = getattr(target, part)
            result = target(*args, **options)  # type: ignore[operator]
            return await result if inspect.isawaitable(result) else result

        return call


KINDS = pytest.mark.parametrize("kind", [RecordingDispatcher, AsyncRecordingDispatcher])

pytestmark = pytest.mark.filterwarnings("ignore:Dispatcher blocks this event loop")


def signatures(kind: type) -> dict[str, str]:
    public = {name: value for name, value in inspect.getmembers(kind) if not name.startswith("_")}
    public |= {
        name: getattr(kind, name) for name in ("__init__", "__enter__", "__aenter__") if hasattr(kind, name)
    }
    return {
        name: "property" if isinstance(value, property) else str(inspect.signature(value))
        for name, value in public.items()
    }


@pytest.mark.parametrize(
    ("real", "recording"), [(Dispatcher, RecordingDispatcher), (AsyncDispatcher, AsyncRecordingDispatcher)]
)
def test_every_public_method_has_the_signature_of_the_real_one(real: type, recording: type) -> None:
    wanted = signatures(real)
    assert {
        "__init__",
        "dispatch",
        "dispatch_many",
        "request",
        "disconnect",
        "revoke",
        "status",
        "presence",
    } <= set(wanted)
    assert {name: text for name, text in signatures(recording).items() if name in wanted} == wanted
    assert set(signatures(recording)) - set(wanted) == set(signatures(Recording)) - {"__init__"}


@KINDS
async def test_dispatches_are_recorded_in_order_as_clients_would_get_them(kind: Any) -> None:
    both = Both(kind, sync=True)
    await both.dispatch(
        Message(0, {"at": (1, 2)}, "A", sync=False), ["anna", "bob", "anna"], ["bob"], delivery="volatile"
    )
    await both.dispatch_many([(NOTE,), Dispatch(NOTE, iter(["bob"]), (), "note-1", "fsync"), (NOTE, [])])
    await both.dispatch(NOTE, "*", {"bob", "anna"}, idempotency_key="note-2")
    await both.dispatch(Message(0, sync=False), ["anna"], delivery=Latest("cursor"))
    await both.dispatch(DispatchEvent("DISCONNECT_CLIENT"), ["carl"])
    assert both.recording.dispatched == [
        Dispatch(Message(0, {"at": [1, 2]}, "A", sync=False), ("anna",), delivery="volatile"),
        Dispatch(NOTE),
        Dispatch(NOTE, ("bob",), (), "note-1", "fsync"),
        Dispatch(NOTE, ()),
        Dispatch(NOTE, ("*",), ("anna", "bob"), "note-2"),
        Dispatch(Message(0, sync=False), ("anna",), delivery=Latest("cursor")),
        Dispatch(DispatchEvent("DISCONNECT_CLIENT"), ("carl",)),
    ]
    assert both.recording.messages_to("bob") == [NOTE, NOTE]
    assert [each.type for each in both.recording.messages_to("anna")] == ["A", "NOTE", None]
    both.recording.clear()
    assert both.recording.dispatched == []


@KINDS
async def test_what_the_real_one_refuses_is_refused_and_not_recorded(kind: Any) -> None:
    both = Both(kind, sync=Sync(enabled=True, max_bytes=1000))
    with pytest.raises(InvalidRecipients):
        await both.dispatch(NOTE, "anna")
    with pytest.raises(InvalidMessage):
        await both.dispatch(Message(0, object()), ["anna"])
    with pytest.raises(InvalidMessage, match="which an outbox holds"):
        await both.dispatch(Message(0, "x" * 1000), ["anna"])
    with pytest.raises(InvalidRecipients):
        await both.dispatch_many([(NOTE, ["anna"]), (NOTE, [1])])
    with pytest.raises(InvalidSettings):
        kind(wire="mesa2")
    with pytest.raises(InvalidSettings):
        kind("redis://localhost", key="secret")
    assert both.recording.dispatched == []


@KINDS
async def test_receipts_say_what_the_script_makes_of_the_recipients(kind: Any) -> None:
    both = Both(kind, sync=True)
    both.recording.online({"anna": 2})
    receipt = await both.dispatch(NOTE, ["anna", "bob"])
    anna, bob = receipt.deliveries["anna"], receipt.deliveries["bob"]
    assert (anna.stored, anna.online, anna.dropped, bob.stored, bob.online, receipt.nodes) == (
        True,
        2,
        None,
        True,
        0,
        1,
    )
    assert {id: each.state for id, each in (await both.status(receipt)).ids.items()} == {
        "anna": "pending",
        "bob": "pending",
    }
    unstored = await both.dispatch(Message(0, sync=False), ["anna", "bob"])
    assert (unstored.deliveries["anna"].dropped, unstored.deliveries["bob"].dropped) == (None, "offline")
    assert (await both.dispatch(NOTE)).nodes == 1
    both.recording.online([])
    assert (await both.dispatch(NOTE)).nodes == 0


@KINDS
async def test_a_repetition_reaches_only_ids_that_did_not_have_the_message(kind: Any) -> None:
    both = Both(kind, sync=True)
    first = await both.dispatch(NOTE, ["anna"], idempotency_key="note-1")
    again = await both.dispatch(NOTE, ["anna"], idempotency_key="note-1")
    assert again.deliveries["anna"].position == first.deliveries["anna"].position
    await both.dispatch(NOTE, ["anna", "bob"], idempotency_key="note-1")
    await both.dispatch(NOTE, idempotency_key="all")
    await both.dispatch(NOTE, idempotency_key="all")
    assert [each.recipients for each in both.recording.dispatched] == [("anna",), ("bob",), ("*",)]
    await both.dispatch(NOTE, ["anna"])
    await both.dispatch(NOTE, ["anna"])
    assert len(both.recording.dispatched) == 5


@KINDS
async def test_presence_is_that_of_the_script(kind: Any) -> None:
    both = Both(kind)
    both.recording.online({"bob": 1, "anna": 2})
    assert await both.presence__online(["anna", "carl"]) == {"anna": 2, "carl": 0}
    assert await both.presence__count() == 2
    assert await both.presence__connections() == 3
    ids = both.recording.presence.ids()
    found = [id async for id in ids] if hasattr(ids, "__aiter__") else list(ids)
    assert found == ["anna", "bob"]
    with pytest.raises(InvalidRecipients):
        both.recording.online(["*"])


@KINDS
async def test_requests_are_recorded_and_answered_by_the_script(kind: Any) -> None:
    both, where = Both(kind), Message(0, None, "WHERE")
    both.recording.answer("anna", {"city": "Bonn"}, Message(4, 2, "X"), RequestFailed("busy", "later"))
    assert await both.request("anna", where) == Message(0, {"city": "Bonn"}, "WHERE")
    assert await both.request("anna", where) == Message(4, 2, "X")
    with pytest.raises(RequestFailed, match="later"):
        await both.request("anna", where)
    with pytest.raises(NotConnected):
        await both.request("anna", where)
    both.recording.online(["anna"])
    with pytest.raises(TimedOut):
        await both.request("anna", where)
    both.recording.answer("bob", lambda message: [message.type])
    assert [(await both.request("bob", where)).data for _ in range(2)] == [["WHERE"]] * 2
    assert both.recording.asked == [Asked("anna", where)] * 5 + [Asked("bob", where)] * 2
    with pytest.raises(InvalidMessage):
        await both.request("anna", None)


@KINDS
async def test_orders_are_recorded(kind: Any) -> None:
    both = Both(kind)
    receipt = await both.disconnect(["anna"], 4010, "bye")
    await both.revoke(["anna", "bob"], issued_before=5.0, idempotency_key="lost phone")
    await both.revoke(["anna", "bob"], issued_before=5.0, idempotency_key="lost phone")
    assert both.recording.orders == [
        Order(("anna",), 4010, "bye"),
        Order(("anna", "bob"), 1008, "", issued_before=5.0),
    ]
    assert (receipt.pending, (await both.status(receipt)).pending) == ((), ())
    assert both.recording.dispatched == []


@KINDS
async def test_without_the_native_wire_there_are_no_requests_and_orders(kind: Any) -> None:
    both = Both(kind, wire="mesa1")
    with pytest.raises(Unsupported):
        await both.request("anna", NOTE)
    with pytest.raises(Unsupported):
        await both.disconnect(["anna"])
    assert (both.recording.asked, both.recording.orders) == ([], [])


@KINDS
async def test_a_backend_that_is_unavailable_gets_nothing(kind: Any) -> None:
    both = Both(kind)
    both.recording.unavailable(times=2)
    for call in (both.dispatch(NOTE, ["anna"]), both.presence__count()):
        with pytest.raises(BackendUnavailable) as raised:
            await call
        assert not raised.value.maybe_sent
    await both.dispatch(NOTE, ["bob"])
    both.recording.unavailable(times=None)
    for _ in range(3):
        with pytest.raises(BackendUnavailable):
            await both.dispatch(NOTE, ["carl"])
    both.recording.recover()
    await both.dispatch(NOTE, ["dora"])
    assert [each.recipients for each in both.recording.dispatched] == [("bob",), ("dora",)]


@KINDS
async def test_after_an_unknown_outcome_an_idempotency_key_makes_one_message(kind: Any) -> None:
    both = Both(kind, sync=True)
    both.recording.unsure()
    with pytest.raises(BackendUnavailable) as raised:
        await both.dispatch(NOTE, ["anna"], idempotency_key="note-1")
    assert raised.value.maybe_sent
    await both.dispatch(NOTE, ["anna"], idempotency_key="note-1")
    assert both.recording.messages_to("anna") == [NOTE]


@KINDS
async def test_a_slow_backend_is_an_unknown_outcome_beyond_the_time_limit(kind: Any) -> None:
    both = Both(kind, timeout=0.02)
    both.recording.slow(0.001)
    both.recording.slow(30)
    await both.dispatch(NOTE, ["anna"])
    with pytest.raises(BackendUnavailable) as raised:
        await both.dispatch(NOTE, ["bob"])
    assert raised.value.maybe_sent
    assert len(both.recording.dispatched) == 2


async def test_a_closed_one_refuses_to_dispatch_and_keeps_its_record() -> None:
    with RecordingDispatcher() as dispatcher:
        dispatcher.dispatch(NOTE, ["anna"])
    with pytest.raises(BackendUnavailable, match="closed"):
        dispatcher.dispatch(NOTE, ["anna"])
    async with AsyncRecordingDispatcher() as other:
        pass
    with pytest.raises(BackendUnavailable, match="closed"):
        await other.dispatch(NOTE, ["anna"])
    assert dispatcher.messages_to("anna") == [NOTE]
