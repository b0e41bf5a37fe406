"""TCP connections to the first address of a host that answers, as RFC 8305 has it.

Families are tried in turn, each beside those before it, so that an address that does not answer
costs a fraction of a second. Of the event loops only asyncio's own can do that.
"""

import asyncio
import socket

from aiohappyeyeballs import start_connection

ATTEMPT_DELAY = 0.25
"""Seconds an address gets before the next one is tried beside it (RFC 8305 section 5)."""


async def connect_socket(host: str, port: int) -> socket.socket:
    """Resolve `host` and open a TCP connection. Cancelling closes what was opened.

    Raises:
        OSError: the name has no address (`socket.gaierror`), or none of its addresses answers.
    """
    addresses = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return await start_connection(addresses, happy_eyeballs_delay=ATTEMPT_DELAY)
