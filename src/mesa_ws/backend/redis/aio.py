"""The bus over Redis, for asyncio."""

from collections.abc import Sequence

from ...envelope import Envelope, Receipt
from ...settings import check_namespace
from .address import Address
from .keys import Keys
from .link import Link
from .plan import Batch


class AsyncRedisBus:
    """`AsyncBus` over one ordered connection, which is made when it is needed.

    Args:
        address: anything `Address.of` understands.
        namespace: clusters of different namespaces never meet.
        timeout: seconds for one call, connecting included.
    """

    def __init__(self, address: object, *, namespace: str | None = None, timeout: float = 5.0) -> None:
        self._keys = Keys(check_namespace(namespace))
        self._link = Link(Address.of(address), self._keys, timeout)

    async def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Send `envelopes` in one round trip; see `AsyncBus.dispatch`."""
        return await dispatch(self._link, self._keys, envelopes)

    async def aclose(self) -> None:
        """Disconnect. Calls under way fail."""
        await self._link.aclose()


async def dispatch(link: Link, keys: Keys, envelopes: Sequence[Envelope]) -> list[Receipt]:
    """Carry a batch over `link`. Envelopes to nobody cost no round trip."""
    batch = Batch.of(keys, envelopes)
    commands = batch.commands
    return batch.receipts(await link.execute(commands) if commands else [])
