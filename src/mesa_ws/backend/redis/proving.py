"""Waiting until what was stored is as durable as it has to be: for a whole batch at once."""

import asyncio
from collections.abc import Collection

from .address import Address
from .connection import AsyncConnection, aread_reply, packed
from .durable import Demand
from .exchange import Request


async def prove(address: Address, connection: AsyncConnection, requests: Collection[Request]) -> None:
    """Wait for what the requests have to reach, on the connection that carried them out, and answer them.

    Where another master counts by then, they are not answered.
    """
    demands = [(r, r.exchange.proof.demand(r.exchange.replies)) for r in requests if r.exchange.proof]
    if not demands:
        return
    asked = Demand.of([demand for _, demand in demands])
    limit = min(request.deadline for request in requests) - asyncio.get_running_loop().time()
    commands = asked.commands(limit)
    await connection.send_packed_command(packed(commands))
    replies = [await aread_reply(connection) for _ in commands]
    if connection.mesa_master.is_left:
        return
    for request, demand in demands:
        failure = demand.shortfall(address.label, asked, replies)
        request.fail(failure, None) if failure else request.succeed()
