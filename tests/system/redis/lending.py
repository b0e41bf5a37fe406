"""Connections of a pool, taken without an operation."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from mesa_ws.backend.redis_client.connection import PooledConnection
from mesa_ws.backend.redis_client.pool import Pool
from tests.contract.cluster import LIMIT


@contextmanager
def borrowed(pool: Pool, seconds: float = LIMIT) -> Iterator[PooledConnection]:
    """Borrow a connection for a block, which gives it up if it raises."""
    connection = pool.borrow(time.monotonic() + seconds)
    try:
        yield connection
    except BaseException:
        pool.give_up(connection)
        raise
    pool.give_back(connection)
