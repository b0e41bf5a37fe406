"""Settings of the client."""

from .settings import Count, Keepalive, Seconds, Settings


class Reconnection(Settings, frozen=True, kw_only=True):
    """How the client comes back after a connection was lost.

    Before the n-th attempt in a row the client waits for an interval and a random time that grows
    with n: up to one interval, then two, four and so on. The random part keeps the clients of a
    restarted server from returning all at once. A connection that lasted longer than `max_pause`,
    and than the pause before it, starts the count over.

    Attributes:
        enabled: on by default.
        interval: seconds to wait at least, unless the server asks for more; None for what the
            server asks for, or 1 second.
        max_pause: seconds that interval and random part together may grow to. An interval of more
            than four fifths of that is waited for all the same, and up to a quarter longer.
        authenticate: whether the client then authenticates by itself, as it did before.
    """

    enabled: bool = True
    interval: Seconds | None = None
    max_pause: Seconds = 5.0
    authenticate: bool = True

    @classmethod
    def _path(cls, name: str) -> str:
        return f"reconnect.{name}"


class ClientLimits(Settings, frozen=True, kw_only=True):
    """What a connection may cost the client, and how long it waits for its server.

    Attributes:
        max_message: bytes of one message from the server.
        max_fragments: frames that one message may be split into (RFC 6455 section 5.4).
        max_queued: messages waiting to be handled; beyond, reading pauses, while an answer is waited
            for beyond eight times as many.
        max_requests: requests that wait for answers, in each direction.
        connect_timeout: seconds from the first packet to the server's greeting.
        close_timeout: seconds the server has to answer a close frame.
    """

    max_message: Count = 16 * 1024 * 1024
    max_fragments: Count = 4096
    max_queued: Count = 64
    max_requests: Count = 64
    connect_timeout: Seconds = 10.0
    close_timeout: Seconds = 5.0

    @classmethod
    def _path(cls, name: str) -> str:
        return f"limits.{name}"


class ClientSettings(Settings, frozen=True, kw_only=True):
    """Everything a client can be told, but for the address."""

    queue_size: Count = 1000
    reconnect: Reconnection = Reconnection()
    keepalive: Keepalive = Keepalive()
    limits: ClientLimits = ClientLimits()

    @classmethod
    def _path(cls, name: str) -> str:
        return name
