"""What the kernel knows about a peer whose socket is not read.

Pings prove nothing then: their answers would wait unread. A FIN or a reset is not reported either,
because an event loop that does not read a socket does not watch it.
"""

import math
import select
import socket

from ..server.send_queue import PeerState
from ..settings import Keepalive

PROBES = 4
"""Keepalive probes of TCP within the `timeout` of the setting."""

_LONGEST = 32_767
"""Seconds that Linux takes for each of the intervals below."""

_FINISHED = getattr(select, "POLLRDHUP", 0) or select.POLLHUP
"""The peer sends no more. Linux has a flag for it, BSD reports a hang-up."""


def peer_state(descriptor: int) -> PeerState:
    """Say whether the peer is there, without reading."""
    poll = select.poll()
    poll.register(descriptor, _FINISHED)
    events = dict(poll.poll(0)).get(descriptor, 0)
    if events & (select.POLLERR | select.POLLNVAL) or events & select.POLLHUP & ~_FINISHED:
        return PeerState.GONE
    return PeerState.FINISHED if events & _FINISHED else PeerState.PRESENT


def probe_silent_peers(listener: socket.socket, keepalive: Keepalive) -> None:
    """Let TCP probe the peers of the connections that `listener` accepts, as often as Pings would.

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

    Without it TCP repeats what was written for a quarter of an hour, and probes nobody meanwhile.
    A peer that is alive but reads nothing for so long is given up, too.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None:
        connection.setsockopt(socket.IPPROTO_TCP, option, math.ceil(seconds * 1000))
