"""Waiting until what was stored is as durable as it has to be: for a whole batch at once."""

import asyncio
import time
from collections.abc import Collection

from .address import Address
from .connection import AsyncConnection, aread_reply, packed
from .durable import Demand
from .exchange import Request
from .resolver import APART


async def prove(address: Address, connection: AsyncConnection, requests: Collection[Request]) -> None:
    """Wait for what the requests have to reach, on the connection that carried them out, and answer them.

    Where another master counts by then, they are not answered.
    """
    demands = [(r, r.exchange.proof.demand(r.exchange.replies)) for r in requests if r.exchange.proof]
    if not demands:
        return
    asked = Demand.of([demand for _, demand in demands])
    due = connection.mesa_master.due(asked.replicas, time.monotonic())
    limit = min(request.deadline for request in requests) - asyncio.get_running_loop().time()
    commands = asked.commands(limit)
    await connection.send_packed_command(packed(commands))
    replies = [await aread_reply(connection) for _ in commands]
    failures = [demand.shortfall(address.label, asked, replies) for _, demand in demands]
    is_sure = due is None or all(failures) or await _hold(address, due, limit)
    if connection.mesa_master.is_left:
        return
    for (request, demand), shortfall in zip(demands, failures, strict=True):
        failure = shortfall or (demand.unsure(address.label) if demand.replicas and not is_sure else None)
        request.fail(failure, None) if failure else request.succeed()


async def _hold(address: Address, due: float, limit: float) -> bool:
    """Hold back confirmations of fewer replicas than before; returns whether they count. See `Copies`."""
    await asyncio.sleep(due - time.monotonic())
    now = time.monotonic()
    masters = address.masters
    return masters is not None and await masters.aconfirm(max(due, now - APART), now + limit)
