"""TCP connections to the first address of a host that answers, as in RFC 8305.

Address families are tried in turn, each while the attempts before it go on, so that an address that
does not answer costs a fraction of a second. uvloop has nothing like it.
"""

import asyncio
import socket

from aiohappyeyeballs import start_connection

ATTEMPT_DELAY = 0.25
"""Seconds an address gets before the next one is tried at the same time (RFC 8305 section 5)."""


async def connect_socket(host: str, port: int) -> socket.socket:
    """Resolve `host` and open a TCP connection. Cancelling closes what was opened.

    Raises:
        OSError: the name has no address (`socket.gaierror`), or none of its addresses answers.
    """
    addresses = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return await start_connection(addresses, happy_eyeballs_delay=ATTEMPT_DELAY)
