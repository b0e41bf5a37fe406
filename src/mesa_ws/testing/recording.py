"""Dispatchers that record what they are asked to send, and answer from a script."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

from ..backend.memory import MemoryHub
from ..backend.pending import late
from ..backend.queries import ConnectionCount, IdPage, Online, OnlineCount, OnlineIds, Query
from ..backend.redis_wire.operations import NO_REQUESTS
from ..backend.urls import DEFAULT_TIMEOUT, DEFAULT_URL, SharedUrl
from ..dispatcher import AsyncDispatcher, Dispatcher
from ..errors import BackendUnavailable, Unsupported
from ..messages.envelope import Dispatch, Envelope, policy_of
from ..messages.frames import decode_frame, encode_message
from ..messages.message import DISCONNECT_CLIENT, DispatchEvent, Message, as_message
from ..messages.order import Order
from ..messages.receipt import Delivery, Receipt
from ..messages.recipients import EVERYBODY, check_ids
from ..messages.request import asked_nodes
from ..settings import Sync, Wire

T = TypeVar("T")

Answer = Message | Exception | Callable[[Message], Any] | Any
"""Answer to a request: a message, data for one of the request's type, an error that the call raises, or a
function of the request that returns one of them or raises."""

Trouble = Literal["unavailable", "unsure", "slow"]


class Asked(NamedTuple):
    """A request that was made.

    Attributes:
        id: the id whose clients were asked.
        message: the request.
    """

    id: str
    message: Message


class _Scripted:
    """Some calls that a test wants to go wrong."""

    def __init__(self, trouble: Trouble, seconds: float, times: int | None) -> None:
        self.trouble = trouble
        self.seconds = seconds
        self.left = times


class Recording:
    """The record of a dispatcher, and its script. Any thread may use it.

    A record holds messages as clients would get them: data went through JSON.

    Attributes:
        dispatched: each dispatch in order, with its recipients as a tuple without those excluded. A
            repetition under the same idempotency key is recorded only for ids that did not have it.
        asked: each request in order.
        orders: each `disconnect` and `revoke` in order; `issued_before` is None for a `disconnect`.
    """

    def __init__(self, timeout: float, wire: Wire) -> None:
        self.dispatched: list[Dispatch] = []
        self.asked: list[Asked] = []
        self.orders: list[Order] = []
        self._timeout = timeout
        self._wire = wire
        self._cluster = MemoryHub().cluster(None)
        self._online: dict[str, int] = {}
        self._answers: dict[str, deque[Answer]] = {}
        self._script: deque[_Scripted] = deque()
        self._known: dict[str, set[str]] = {}
        self._is_closed = False
        self._lock = threading.RLock()

    def messages_to(self, id: str) -> list[Message]:
        """Return the messages that a client of `id` would have got, in order, those to `"*"` included."""
        return [
            each.message
            for each in self.dispatched
            if isinstance(each.message, Message)
            and (id in each.recipients or (each.recipients == EVERYBODY and id not in each.excluding))
        ]

    def online(self, ids: Iterable[str] | Mapping[str, int]) -> None:
        """Let exactly these ids be online, each with one connection, or with as many as a mapping says.

        Raises:
            InvalidRecipients: one of them cannot be an id.
        """
        counts = dict(ids) if isinstance(ids, Mapping) else dict.fromkeys(check_ids(ids), 1)
        check_ids(counts)
        self._online = counts

    def answer(self, id: str, *answers: Answer) -> None:
        """Let the clients of `id` answer requests, each answer one of them, in order.

        A function answers all that follow. A request without an answer raises `NotConnected` if the id is not
        online, and `TimedOut` at once if it is.

        Args:
            id: the id that is asked.
            answers: messages, or data; errors, which the call raises; or a function of the request that
                returns or raises one of them.
        """
        self._answers.setdefault(id, deque()).extend(answers)

    def unavailable(self, times: int | None = 1) -> None:
        """Let calls raise `BackendUnavailable` with nothing sent.

        Args:
            times: number of calls; None for all until `recover`.
        """
        self._script.append(_Scripted("unavailable", 0.0, times))

    def unsure(self, times: int | None = 1) -> None:
        """Let calls raise `BackendUnavailable` with `maybe_sent`, although the message was sent.

        Args:
            times: as in `unavailable`.
        """
        self._script.append(_Scripted("unsure", 0.0, times))

    def slow(self, seconds: float, times: int | None = 1) -> None:
        """Let calls take a time. Beyond the `timeout` of the dispatcher, they are unsure.

        Args:
            seconds: the time, really waited for.
            times: as in `unavailable`.
        """
        self._script.append(_Scripted("slow", seconds, times))

    def recover(self) -> None:
        """Let all calls from now on go well."""
        self._script.clear()

    def clear(self) -> None:
        """Forget everything that was recorded and stored; the script stays."""
        with self._lock:
            self.dispatched, self.asked, self.orders = [], [], []
            self._cluster, self._known = MemoryHub().cluster(None), {}

    # From the buses.

    def _pause(self) -> tuple[float, Trouble | None]:
        """Return the seconds that the next call waits, and what then happens to it."""
        with self._lock:
            if self._is_closed:
                raise BackendUnavailable("the dispatcher is closed; make another one")
            if not self._script:
                return 0.0, None
            scripted = self._script[0]
            if scripted.left is not None:
                scripted.left -= 1
                if scripted.left <= 0:
                    self._script.popleft()
        if scripted.trouble != "slow":
            return 0.0, scripted.trouble
        return min(scripted.seconds, self._timeout), "unsure" if scripted.seconds > self._timeout else None

    def _carry_out(self, work: Callable[[], T], trouble: Trouble | None) -> T:
        if trouble == "unavailable":
            raise BackendUnavailable("the script of the test wants the backend to be unavailable")
        with self._lock:
            result = work()
        if trouble == "unsure":
            raise BackendUnavailable("the script of the test wants the answer to be lost", maybe_sent=True)
        return result

    def _record(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        return [self._record_one(envelope) for envelope in envelopes]

    def _record_one(self, envelope: Envelope) -> Receipt:
        order = Order.read(envelope.body) if envelope.kind == "order" else None
        if order is not None and self._wire == "mesa1":
            return Receipt(envelope.message_id, {}, 0)  # without a position, as from a server of that wire
        is_everybody = envelope.recipients.everybody
        names = EVERYBODY if is_everybody else envelope.recipients.ids
        known = self._known.setdefault(envelope.message_id, set()) if envelope.remember else set()
        new = tuple(name for name in names if name not in known)
        if new or not known:
            known.update(new)
            if order is not None:
                self.orders.append(order)
            else:
                self.dispatched.append(_dispatch(envelope, new))
        receipt = self._cluster.dispatch(envelope)
        if order is not None:
            return receipt
        deliveries = {id: self._seen(id, each) for id, each in receipt.deliveries.items()}
        is_routed = bool(self._online) if is_everybody else any(each.online for each in deliveries.values())
        return receipt._replace(deliveries=deliveries, nodes=int(is_routed))

    def _seen(self, id: str, delivery: Delivery) -> Delivery:
        online = self._online.get(id, 0)
        return delivery._replace(online=online, dropped=None if online else delivery.dropped)

    def _reply(self, request: Envelope, timeout: float) -> bytes:
        if self._wire == "mesa1":
            raise Unsupported(NO_REQUESTS)
        [id] = request.recipients.ids
        message = decode_frame(request.body).message()
        self.asked.append(Asked(id, message))
        answers = self._answers.get(id)
        if not answers:
            online = self._online.get(id, 0)
            asked_nodes(request, Receipt("", {id: Delivery(False, online, None)}, int(online > 0)))
            raise late(timeout)
        answer = answers[0] if callable(answers[0]) else answers.popleft()
        if callable(answer):
            answer = answer(message)
        if isinstance(answer, Exception):
            raise answer
        return encode_message(as_message(answer, message))

    def _answer_query(self, query: Query[Any]) -> Any:
        match query:
            case Online(ids):
                return {id: self._online.get(id, 0) for id in ids}
            case OnlineCount():
                return len(self._online)
            case OnlineIds():
                return IdPage(tuple(sorted(self._online)), None)
            case ConnectionCount():
                return sum(self._online.values())
        return self._cluster.answer(query)

    def _close(self) -> None:
        self._is_closed = True


def _dispatch(envelope: Envelope, names: tuple[str, ...]) -> Dispatch:
    if envelope.kind == "disconnect":
        message: Message | DispatchEvent = DispatchEvent(DISCONNECT_CLIENT)
    else:
        message = replace(decode_frame(envelope.body).message(), sync=envelope.sync)
    excluding = tuple(sorted(envelope.recipients.excluding))
    policy = policy_of(envelope)
    return Dispatch(message, names, excluding, envelope.idempotency_key, envelope.durability, policy)


class _BlockingRecorder:
    """`BlockingBus` that records."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self.close = recording._close

    def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        return self._call(partial(self._recording._record, envelopes))

    def request(self, request: Envelope, timeout: float) -> bytes:
        return self._call(partial(self._recording._reply, request, timeout))

    def query(self, query: Query[T]) -> T:
        answer: T = self._call(partial(self._recording._answer_query, query))
        return answer

    def purge(self, id: str) -> int:
        return self._call(partial(self._recording._cluster.purge, id))

    def _call(self, work: Callable[[], T]) -> T:
        seconds, trouble = self._recording._pause()
        time.sleep(seconds)
        return self._recording._carry_out(work, trouble)


class _AsyncRecorder:
    """`AsyncBus` that records."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    async def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        return await self._call(partial(self._recording._record, envelopes))

    async def request(self, request: Envelope, timeout: float) -> bytes:
        return await self._call(partial(self._recording._reply, request, timeout))

    async def query(self, query: Query[T]) -> T:
        answer: T = await self._call(partial(self._recording._answer_query, query))
        return answer

    async def purge(self, id: str) -> int:
        return await self._call(partial(self._recording._cluster.purge, id))

    async def aclose(self) -> None:
        self._recording._close()

    async def _call(self, work: Callable[[], T]) -> T:
        seconds, trouble = self._recording._pause()
        if seconds:
            await asyncio.sleep(seconds)
        return self._recording._carry_out(work, trouble)


class RecordingDispatcher(Recording, Dispatcher):
    """`Dispatcher` that sends nothing, records everything, and answers from a script.

    It takes the arguments of `Dispatcher` and checks calls in the same code, so what it accepts,
    a `Dispatcher` accepts. It never connects.

    Args:
        url: as in `Dispatcher`; not used.
        namespace: as in `Dispatcher`.
        sync: as in `Dispatcher`; receipts say what would be stored.
        timeout: as in `Dispatcher`; see `slow`.
        key: as in `Dispatcher`.
        wire: as in `Dispatcher`.
    """

    def __init__(
        self,
        url: SharedUrl = DEFAULT_URL,
        *,
        namespace: str | None = None,
        sync: bool | Mapping[str, object] | Sync = False,
        timeout: float = DEFAULT_TIMEOUT,
        key: str | None = None,
        wire: Wire = "native",
    ) -> None:
        Dispatcher.__init__(self, url, namespace=namespace, sync=sync, timeout=timeout, key=key, wire=wire)
        Recording.__init__(self, timeout, wire)
        self._bus = _BlockingRecorder(self)


class AsyncRecordingDispatcher(Recording, AsyncDispatcher):
    """`AsyncDispatcher` that sends nothing, records everything, and answers from a script.

    Args:
        url: as in `RecordingDispatcher`.
        namespace: as in `RecordingDispatcher`.
        sync: as in `RecordingDispatcher`.
        timeout: as in `RecordingDispatcher`.
        key: as in `RecordingDispatcher`.
        wire: as in `RecordingDispatcher`.
    """

    def __init__(
        self,
        url: SharedUrl = DEFAULT_URL,
        *,
        namespace: str | None = None,
        sync: bool | Mapping[str, object] | Sync = False,
        timeout: float = DEFAULT_TIMEOUT,
        key: str | None = None,
        wire: Wire = "native",
    ) -> None:
        AsyncDispatcher.__init__(
            self, url, namespace=namespace, sync=sync, timeout=timeout, key=key, wire=wire
        )
        Recording.__init__(self, timeout, wire)
        self._bus = _AsyncRecorder(self)
