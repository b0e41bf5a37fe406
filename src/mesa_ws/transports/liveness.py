"""Ask the kernel about a peer whose socket is not read, or was not accepted for a while.

Pings do not help then, because their answers would wait unread. An event loop does not report a FIN
or a reset either, because it does not watch a socket that it does not read.
"""

import math
import select
import socket
import struct

from ..server.send_queue import PeerState
from ..settings import Keepalive

PROBES = 4
"""Keepalive probes of TCP within the `timeout` of the setting."""

_LONGEST = 32_767
"""Longest interval, in seconds, that Linux accepts below."""

_FINISHED = getattr(select, "POLLRDHUP", 0) or select.POLLHUP
"""The peer has finished sending. Linux has a flag for it, BSD reports a hang-up."""


def peer_state(descriptor: int) -> PeerState:
    """Return whether the peer is still connected, without reading."""
    poll = select.poll()
    poll.register(descriptor, _FINISHED)
    events = dict(poll.poll(0)).get(descriptor, 0)
    if events & (select.POLLERR | select.POLLNVAL) or events & select.POLLHUP & ~_FINISHED:
        return PeerState.GONE
    return PeerState.FINISHED if events & _FINISHED else PeerState.PRESENT


_LAST_RECEIVED = 52
"""Offset of `tcpi_last_data_recv` in `struct tcp_info` of Linux: see linux/tcp.h."""


def seconds_waited(connection: socket.socket) -> float:
    """Return how long ago the peer sent something, or connected; 0 where the system does not say.

    For a connection that was just accepted this is how long it waited, as peers send their request at once.
    """
    if not hasattr(socket, "TCP_INFO"):  # pragma: no cover - Linux has it
        return 0.0
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_RECEIVED + 4)
    if len(info) < _LAST_RECEIVED + 4:  # pragma: no cover - of another system
        return 0.0
    milliseconds: int = struct.unpack_from("i", info, _LAST_RECEIVED)[0]
    return max(0, milliseconds) / 1000  # it is less than 0 if something arrives while Linux looks


def probe_silent_peers(listener: socket.socket, keepalive: Keepalive) -> None:
    """Make TCP probe the peers of the connections that `listener` accepts, as often as Pings would.

    On Linux and BSD an accepted socket inherits these options.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))
    pause = math.ceil(keepalive.timeout / PROBES)
    for option, value in (
        (idle, math.ceil(keepalive.interval)),
        (getattr(socket, "TCP_KEEPINTVL", None), pause),
        (getattr(socket, "TCP_KEEPCNT", None), PROBES),
    ):
        if option is not None:
            listener.setsockopt(socket.IPPROTO_TCP, option, min(value, _LONGEST))


def limit_silence(connection: socket.socket, seconds: float) -> None:
    """End the connection when the peer has acknowledged nothing for so long; 0 for the default, 15 min.

    Without it TCP retransmits for a quarter of an hour, and sends no keepalive probes in that time.
    The limit also ends the connection of a peer that is alive but reads nothing for so long.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None:
        connection.setsockopt(socket.IPPROTO_TCP, option, math.ceil(seconds * 1000))
