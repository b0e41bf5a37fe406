"""The bus over Redis, for asyncio."""

import asyncio
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from ...envelope import Envelope, Receipt
from ...errors import BackendUnavailable
from ...settings import check_namespace
from .address import Address
from .keys import Keys
from .link import Link
from .plan import Batch
from .timing import Timing


class AsyncRedisBus:
    """`AsyncBus` over one ordered connection, which is made when it is needed.

    Each event loop that calls has a connection and an order of its own.

    Args:
        address: anything `Address.of` understands.
        namespace: clusters of different namespaces never meet.
        timeout: seconds for one call, connecting included.

    Raises:
        InvalidSettings: one of them cannot be used.
    """

    def __init__(self, address: object, *, namespace: str | None = None, timeout: float = 5.0) -> None:
        self._address = Address.of(address)
        self._keys = Keys(check_namespace(namespace))
        self._timeout = Timing(timeout=timeout).timeout
        self._links: WeakKeyDictionary[asyncio.AbstractEventLoop, Link] = WeakKeyDictionary()
        self._is_closed = False

    async def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Send `envelopes` in one round trip; see `AsyncBus.dispatch`."""
        if self._is_closed:
            raise BackendUnavailable("the dispatcher is closed")
        return await dispatch(self._link(), self._keys, envelopes)

    async def aclose(self) -> None:
        """Disconnect. Calls under way fail; calling it again is fine."""
        self._is_closed = True
        await self._link().aclose()

    def _link(self) -> Link:
        loop = asyncio.get_running_loop()
        if loop not in self._links:
            self._links[loop] = Link(self._address, self._keys, self._timeout)
        return self._links[loop]


async def dispatch(link: Link, keys: Keys, envelopes: Sequence[Envelope]) -> list[Receipt]:
    """Carry a batch over `link`. Envelopes to nobody cost no round trip."""
    batch = Batch.of(keys, envelopes)
    commands = batch.commands
    return batch.receipts(await link.execute(commands) if commands else [])
