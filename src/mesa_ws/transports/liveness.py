"""Ask the kernel about a peer whose socket is not read.

Pings do not help then, because their answers would wait unread. An event loop does not report a FIN
or a reset either, because it does not watch a socket that it does not read.
"""

import math
import select
import socket

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
