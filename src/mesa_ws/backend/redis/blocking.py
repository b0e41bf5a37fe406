"""Bus over Redis, for threads."""

import random
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ...errors import BackendUnavailable, Unsupported
from ...messages.envelope import Envelope
from ...messages.receipt import Receipt
from ...settings import Sync
from ..queries import Query
from ..redis_client.address import Address
from ..redis_client.connection import BlockingConnection, remaining
from ..redis_client.failures import FOREIGN, failed_call
from ..redis_client.pipeline import PAUSE, Batch, Operation
from ..redis_client.pool import LentConnection, Pool
from ..redis_wire.operations import NO_REQUESTS, WireOperations
from ..redis_wire.timing import Timing
from .requester import BlockingRequester
from .wire import NativeWire

T = TypeVar("T")

NOT_STORED = Sync()


class BlockingRedisBus:
    """`BlockingBus` over a pool of connections, which are opened when they are needed.

    Args:
        address: anything `Address.of` understands.
        namespace: clusters of different namespaces never meet.
        timeout: seconds for one call: waiting for a connection, connecting, writing and reading.
        sync: whether messages will be stored, and whether a Redis that evicts keys is accepted.
        wire: makes the operations of a namespace.

    Raises:
        InvalidSettings: an argument is wrong.
    """

    def __init__(
        self,
        address: object,
        *,
        namespace: str | None = None,
        timeout: float = 5.0,
        sync: Sync = NOT_STORED,
        wire: Callable[[str | None], WireOperations] = NativeWire,
    ) -> None:
        self._address = Address.of(address)
        self._wire = wire(namespace)
        self._timeout = Timing(timeout=timeout).timeout
        handshake = self._wire.handshake(
            stores=sync.enabled,
            allow_eviction=sync.allow_eviction,
            database=self._address.database,
        )
        self._pool = Pool(self._address, handshake)
        self._requester = (
            BlockingRequester(self._address, self._wire.replies, self._wire.dispatching, self._run_before)
            if self._wire.replies
            else None
        )
        self._is_closed = False

    def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Dispatch `envelopes` in one round trip; see `BlockingBus.dispatch`."""
        return self._run(self._wire.dispatching(envelopes))

    def request(self, request: Envelope, timeout: float) -> bytes:
        """Ask the connections of one id; see `AsyncBus.request`.

        Each request has a connection of its own, on which its thread waits for the replies.
        """
        if self._is_closed:
            raise BackendUnavailable("the dispatcher is closed")
        if self._requester is None:
            raise Unsupported(NO_REQUESTS)
        return self._requester.request(request, timeout)

    def query(self, query: Query[T]) -> T:
        """Return the answer to a query; see `AsyncBus.query`."""
        return self._run(self._wire.query(query))

    def purge(self, id: str) -> int:
        """Drop all messages of an outbox; see `AsyncBus.purge`."""
        return self._run(self._wire.purge(id))

    def close(self) -> None:
        """Release connections. Later calls fail; a second call does nothing."""
        self._is_closed = True
        self._pool.close()

    def _run(self, operation: Operation[T]) -> T:
        return self._run_before(operation, time.monotonic() + self._timeout)

    def _run_before(self, operation: Operation[T], deadline: float) -> T:
        if self._is_closed:
            raise BackendUnavailable("the dispatcher is closed")
        return operation.read(self._execute(operation.batch(), deadline) if operation.commands else [])

    def _execute(self, batch: Batch, deadline: float) -> list[Any]:
        """Run a batch, and repeat it before its deadline where that is safe and needed."""
        while True:
            try:
                with self._pool.lend(deadline, is_new=batch.is_doubtful) as lent:
                    is_done = self._carry_out(batch, lent, deadline)
                if is_done:
                    return batch.replies
            except BackendUnavailable as error:
                if not batch.is_doubtful or _is_late(deadline) or not batch.repeat(time.monotonic()):
                    raise batch.doubting(error) from error.__cause__
                time.sleep(PAUSE * random.uniform(1, 2))  # noqa: S311
            except FOREIGN as error:
                if _is_late(deadline) or not batch.repeat(time.monotonic()):
                    raise failed_call(self._address.label, error, maybe_sent=batch.is_written) from error

    def _carry_out(self, batch: Batch, lent: LentConnection, deadline: float) -> bool:
        """Run a batch once; return whether its replies count."""
        where, connection = self._address.label, lent.connection
        self._pool.permit(batch.commands)
        if batch.proof is not None:
            batch.proof.check(where, self._pool.info)
        self._round(batch, connection, deadline if lent.is_new else _first_limit(batch, deadline))
        if batch.missing:
            self._pool.shake_hands(connection, deadline)
            self._round(batch, connection, deadline)
        if batch.has_errors and batch.is_misled:
            self._pool.doubt()
        failure = batch.failure(where) if batch.has_errors else None
        if failure is None and batch.proof is not None:
            demand = batch.proof.demand(batch.replies)
            due = connection.mesa_master.due(demand.replicas, time.monotonic())
            commands = demand.commands(remaining(deadline))
            failure = demand.shortfall(where, demand, self._pool.talk(connection, commands, deadline))
            if failure is None and due is not None and not self._pool.hold(connection, due, deadline):
                failure = demand.unsure(where)
        if connection.mesa_master.is_left:
            if not _is_late(deadline) and batch.repeat(time.monotonic()):
                return False
            if failure is None and batch.proof is not None:
                failure = batch.proof.lost_master(where)
        if failure is not None:
            raise failure
        return True

    def _round(self, batch: Batch, connection: BlockingConnection, deadline: float) -> None:
        batch.on_write(time.monotonic())
        batch.on_replies(self._pool.talk(connection, batch.unsent, deadline))


def _first_limit(batch: Batch, deadline: float) -> float:
    """Return until when to wait on a connection that may be dead, which leaves time for another one."""
    return batch.first_limit(time.monotonic(), deadline)


def _is_late(deadline: float) -> bool:
    return time.monotonic() + 2 * PAUSE >= deadline
