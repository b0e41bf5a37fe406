"""The bus over Redis, for threads."""

import time
from collections.abc import Sequence
from typing import Any

from ...envelope import Envelope, Receipt
from ...errors import BackendUnavailable
from ...settings import check_namespace
from .address import Address
from .connection import BlockingConnection, read_reply, set_limit
from .exchange import Exchange
from .failure import FOREIGN, failed_call
from .keys import Keys
from .plan import Batch, Command
from .pool import Pool, shake_hands
from .timing import Timing


class BlockingRedisBus:
    """`BlockingBus` over a pool of connections, which are made when they are needed.

    Args:
        address: anything `Address.of` understands.
        namespace: clusters of different namespaces never meet.
        timeout: seconds for one call: waiting for a connection, connecting, writing and reading.

    Raises:
        InvalidSettings: one of them cannot be used.
    """

    def __init__(self, address: object, *, namespace: str | None = None, timeout: float = 5.0) -> None:
        self._address = Address.of(address)
        self._keys = Keys(check_namespace(namespace))
        self._timeout = Timing(timeout=timeout).timeout
        self._pool = Pool(self._address, self._keys)
        self._is_closed = False

    def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Send `envelopes` in one round trip; see `BlockingBus.dispatch`."""
        if self._is_closed:
            raise BackendUnavailable("the dispatcher is closed")
        batch = Batch.of(self._keys, envelopes)
        commands = batch.commands
        return batch.receipts(self._execute(commands) if commands else [])

    def close(self) -> None:
        """Release connections. Calls afterwards fail; calling it again is fine."""
        self._is_closed = True
        self._pool.close()

    def _execute(self, commands: Sequence[Command]) -> list[Any]:
        deadline = time.monotonic() + self._timeout
        exchange = Exchange(commands)
        try:
            with self._pool.lend(deadline) as connection:
                self._run(exchange, connection, deadline)
        except FOREIGN as error:
            raise failed_call(self._address.label, error, maybe_sent=exchange.is_written) from error
        return exchange.replies

    def _run(self, exchange: Exchange, connection: BlockingConnection, deadline: float) -> None:
        _carry(exchange, connection, deadline)
        if exchange.missing:
            shake_hands(connection, self._keys, deadline)
            _carry(exchange, connection, deadline)
        failure = exchange.failure(self._address.label)
        if failure is not None:
            raise failure


def _carry(exchange: Exchange, connection: BlockingConnection, deadline: float) -> None:
    packed = connection.pack_commands(exchange.unsent)
    set_limit(connection, deadline)
    exchange.writing()
    connection.send_packed_command(packed)
    exchange.took([read_reply(connection, deadline) for _ in exchange.missing])
