"""The socket on which the dispatch API listens."""

import socket

from ..errors import ListenFailed

_BACKLOG = 1024


def listen(host: str, port: int) -> socket.socket:
    """Listen on a TCP port.

    Args:
        host: an address, or a name that has one in IPv4.
        port: 0 for any that is free.

    Raises:
        ListenFailed: the port is in use, or the host is not of this machine.
    """
    # The protocol is named because asyncio switches Nagle's algorithm off only where it is; with
    # it on, every answer waits for the peer's delayed ACK (40 ms).
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except (OSError, UnicodeError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise ListenFailed(f"the dispatch API cannot listen on {host}:{port}: {reason}") from error
    return listener
