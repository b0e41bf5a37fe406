"""A portal's end of the wire of 1.x."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from uuid import uuid4

from ...concurrency.retry import LimitedWarning, retry_after
from ...concurrency.tasks import Tasks
from ...errors import BackendError, Unsupported
from ...messages.envelope import Envelope
from ...settings import check_namespace
from ..inbox import InboxEvent
from ..redis_client.address import Address
from ..redis_client.command import Call
from ..redis_client.pipeline import Pipeline
from ..redis_client.subscriber import Subscriber
from ..redis_wire.timing import BEATS, EXPIRY, MISSED, Timing
from .keys import Mesa1Keys
from .payloads import InvalidPayload, read_event, reply_payload
from .portal_liveness import NAME, portal_heartbeat, remove_portal
from .rights import of_portal
from .wire import Mesa1Handshake, ignore

NO_REPLY = (
    "event.reply: expected an event of a server of Mesa for Python, got one of a server of npm's @cryb/mesa, "
    "which does not name its connection; dispatch to event.id instead"
)

Take = Callable[[InboxEvent], None]
"""Called with each event, in the event loop; must not raise."""

_log = logging.getLogger("mesa_ws.portal")


class Mesa1PortalConsumer:
    """Receives the events that servers of both kinds publish for portals, each at most once.

    Args:
        address: a Redis URI, a mapping of redis-py options, or a redis-py client.
        namespace: that of the servers.
        sees_all: receive the events for other portals, too.
        lease: seconds without a heartbeat after which our servers send the portal no more events.
        timeout: seconds for one call, connecting included.

    Attributes:
        portal_id: random name of this portal; a UUID.
        garbage: number of payloads that were no events.

    Raises:
        InvalidSettings: an argument is wrong.
    """

    def __init__(
        self,
        address: object,
        *,
        namespace: str | None = None,
        sees_all: bool = False,
        lease: float = 15.0,
        timeout: float = 5.0,
    ) -> None:
        self.portal_id = str(uuid4())
        self.garbage = 0
        self._timing = Timing(lease=lease, timeout=timeout, expiry=EXPIRY)
        self._keys = Mesa1Keys(check_namespace(namespace))
        self._address = Address.of(address)
        self._sees_all = sees_all
        hello = Mesa1Handshake(self._keys, of_portal(self._keys), database=self._address.database)
        self._pipeline = Pipeline(self._address, hello, timeout)
        self._reader: Subscriber | None = None
        self._tasks = Tasks()
        self._wake = asyncio.Event()
        self._own = self._keys.channel(self.portal_id)
        self._unheard = 0
        self._take: Take = _nothing
        self._broken = LimitedWarning()

    async def open(self, take: Take) -> None:
        """Listen, and then join the pool, where servers find the portal.

        Raises:
            BackendUnavailable: Redis cannot be reached.
            BackendRefused: Redis refuses.
        """
        self._take = take
        reader = self._reader = Subscriber(
            self._address,
            [self._keys.portal],
            self._hear,
            self._wake.set,
            self._timing.timeout,
            others={self._own: self._on_own, self._keys.database(self._address.database): ignore},
            name=f"{NAME}{self.portal_id}",
        )
        await reader.open()
        await self._show(is_new=True)
        self._pipeline.on_reconnect = self._wake.set
        self._tasks.start(self._beat, "portal")

    async def leave(self) -> None:
        """Leave the pool; events that are on their way still arrive.

        Raises:
            BackendError: Redis did not answer.
        """
        await self._tasks.aclose(self._timing.timeout)
        await self._run(remove_portal(self._keys, self.portal_id, "leaves", self._timing.expiry))

    async def reply(self, envelope: Envelope, node: str) -> bool:
        """Send a message to one connection of one node; return whether that node lives.

        Raises:
            BackendError: Redis did not answer.
            Unsupported: the event came from a server of 1.x.
        """
        if not node:
            raise Unsupported(NO_REPLY)
        command = ("PUBLISH", self._keys.channel(node), reply_payload(envelope))
        (heard,) = await self._pipeline.execute([command])
        return bool(heard)

    async def aclose(self) -> None:
        """Disconnect."""
        await self._tasks.aclose(self._timing.timeout)
        if self._reader is not None:
            await self._reader.aclose()
        await self._pipeline.aclose()

    async def _beat(self) -> None:
        is_cut_off = False
        while True:
            lease = self._timing.lease
            with suppress(TimeoutError):
                async with asyncio.timeout(retry_after(lease) if is_cut_off else lease / BEATS):
                    await self._wake.wait()
            self._wake.clear()
            try:
                if self._reader is not None and self._reader.is_subscribed:
                    await self._show(is_new=False)
                    await self._listen_again_if_deaf(self._reader)
                is_cut_off = False
            except BackendError as error:
                if not is_cut_off:
                    _log.warning("portal %s cannot renew its lease: %s", self.portal_id, error)
                is_cut_off = True

    async def _show(self, *, is_new: bool) -> None:
        timing = self._timing
        await self._run(
            portal_heartbeat(self._keys, self.portal_id, timing.lease, timing.expiry, is_new=is_new)
        )

    async def _listen_again_if_deaf(self, reader: Subscriber) -> None:
        """Publish to this portal's own channel; if that never arrives, the subscription is dead: renew it."""
        self._unheard += 1
        if self._unheard > MISSED:
            self._unheard = 0
            await reader.restart()
        await self._pipeline.execute([("PUBLISH", self._own, b"")], is_repeatable=True)

    def _on_own(self, payload: bytes) -> None:
        self._unheard = 0

    async def _run(self, call: Call) -> None:
        await self._pipeline.execute([call.command], is_repeatable=True)

    def _hear(self, payload: bytes) -> None:
        try:
            portal_id, event = read_event(payload)
        except InvalidPayload as error:
            self.garbage += 1
            self._broken.warn(_log, "ignored %d bytes on %r: %s", len(payload), self._keys.portal, error)
            return
        if self._sees_all or portal_id == self.portal_id:
            self._take(event)


def _nothing(event: InboxEvent) -> None:
    """Ignore events before the portal is open."""
