"""Settings: one frozen class per feature, with the names and defaults of @cryb/mesa 1.x.

Durations are seconds and sizes are bytes. A feature may be given as an instance, as a mapping
of its fields, or as True and False for its `enabled`. Anything wrong raises one `InvalidSettings`
that names the field.
"""

from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import Annotated, Any, ClassVar, Literal, Self, TypedDict

import msgspec

from .errors import InvalidSettings
from .text import plain

Seconds = Annotated[
    float, msgspec.Meta(gt=0, le=86_400, description="a number of seconds, more than 0 and up to 86400")
]
Interval = Annotated[
    float, msgspec.Meta(gt=0, le=600, description="a number of seconds, more than 0 and up to 600")
]
"""A time that 1.x has in milliseconds: its numbers are refused rather than taken for hours."""
Switch = Annotated[bool, msgspec.Meta(description="True or False")]
Text = Annotated[str, msgspec.Meta(description="text")]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**31, description="an integer from 1 to 2147483648")]
Lifetime = Annotated[
    float,
    msgspec.Meta(gt=0, le=366 * 86_400, description="a number of seconds, more than 0 and up to 366 days"),
]
Window = Annotated[
    float, msgspec.Meta(ge=0, le=86_400, description="a number of seconds, 0 or more and up to 86400")
]
Port = Annotated[int, msgspec.Meta(ge=0, le=65_535, description="an integer from 0 to 65535")]
Hosts = Annotated[
    str | Annotated[tuple[Annotated[str, msgspec.Meta(min_length=1)], ...], msgspec.Meta(min_length=1)],
    msgspec.Meta(description="an address or a name of this machine, a list of them, or '' for every address"),
]
"""Where to listen."""
Namespace = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z", description="1 to 64 of A-Z a-z 0-9 _ . - or None")
]

ORIGIN = r"([a-z][a-z0-9+.-]*)://((?:\*\.)?[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?"
"""An origin in lower case (RFC 6454 section 6.2): scheme, host, whose first label may be `*`, and port."""

_ORIGINS = "a list of origins such as 'https://app.example.com' or 'https://*.example.com', or '*', or None"
OriginList = Annotated[
    tuple[Annotated[str, msgspec.Meta(pattern=rf"^(\*|(?i:{ORIGIN}))\Z")], ...],
    msgspec.Meta(description=_ORIGINS),
]
"""Origins of web pages (RFC 6454 section 6.2), without a path; `*` as the first label stands for any."""

_NETWORKS = "a list of networks such as '10.0.0.0/8', or None"
Networks = Annotated[tuple[str, ...], msgspec.Meta(description=_NETWORKS)]
"""Networks of IP addresses, without bits of hosts."""

ProxyHeader = Literal["x-forwarded-for", "forwarded"]
"""The header field in which proxies name the addresses of clients."""

PRIVATE_NETWORKS = (
    *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
    *("::1/128", "fc00::/7", "fe80::/10"),
)
"""Networks that the internet does not route: this machine, and where proxies usually are."""


def _is_feature(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Settings)


def _expected(kind: Any, error: msgspec.ValidationError) -> str:
    for candidate in (kind, *getattr(kind, "__args__", ())):
        for meta in getattr(candidate, "__metadata__", ()):
            if isinstance(meta, msgspec.Meta) and meta.description:
                return meta.description
    return str(error).removeprefix("Expected ").split(", got")[0]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the setting classes: checks every field, and converts seconds to floats."""

    _prefix: ClassVar[str | None] = None
    """What errors put before the name of a field; None for the name of the class and a dot."""

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(self):
            self._check(field.name, field.type)

    @classmethod
    def of(cls, given: object, where: str | None = None) -> Self:
        """Make settings from an instance, a mapping of fields, True or False.

        Args:
            given: the user's value.
            where: name of the setting in errors; the class's own name by default.

        Raises:
            InvalidSettings: anything else, or a field that is unknown or wrong.
        """
        if isinstance(given, cls):
            return given
        if isinstance(given, bool) and "enabled" in cls.__struct_fields__:
            return cls(enabled=given)
        if not isinstance(given, Mapping):
            expected = f"{cls.__name__}(...) or a mapping of its fields"
            raise InvalidSettings(where or cls.__name__.lower(), expected, given)
        for name in given:
            if name not in cls.__struct_fields__:
                raise InvalidSettings(cls._path(name), f"one of {', '.join(cls.__struct_fields__)}", name)
        return cls(**given)

    @classmethod
    def _path(cls, name: str) -> str:
        prefix = f"{cls.__name__.lower()}." if cls._prefix is None else cls._prefix
        return f"{prefix}{name}"

    def _check(self, name: str, kind: Any) -> None:
        value = plain(getattr(self, name))
        try:
            checked = kind.of(value, self._path(name)) if _is_feature(kind) else msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise InvalidSettings(self._path(name), _expected(kind, error), value) from None
        msgspec.structs.force_setattr(self, name, checked)


class Heartbeat(Settings, frozen=True, kw_only=True):
    """Heartbeats in the protocol itself (op 1 and op 11), as 1.x clients answer them.

    Attributes:
        enabled: off by default, as in 1.x; the WebSocket keepalive works without it.
        interval: seconds between two heartbeats.
        max_attempts: unanswered heartbeats with `tries` before the connection is closed.
    """

    enabled: Switch = False
    interval: Interval = 10.0
    max_attempts: Count = 3


class Reconnect(Settings, frozen=True, kw_only=True):
    """The interval after which clients reconnect, as HELLO announces it.

    Attributes:
        enabled: whether HELLO carries an interval.
        interval: seconds clients wait before they connect again.
    """

    enabled: Switch = False
    interval: Interval = 5.0


class Authentication(Settings, frozen=True, kw_only=True):
    """How clients become users.

    Attributes:
        timeout: seconds from the connection to the end of authentication, announced in HELLO and
            enforced if the server has an authenticator; None for no limit.
        required: connections that have not authenticated receive nothing that is sent to `*`.
        anonymous: whether clients that have not authenticated may send messages and requests; if not, one
            that does is closed with 1008, and neither handlers nor portals get it.
        send_user_object: whether the acknowledgement carries the user object.
        disconnect_on_fail: whether a refused client is closed.
        store_connected_users: whether this node tells the backend which ids it serves, so that
            messages from other processes find them.
    """

    timeout: Interval | None = 10.0
    required: Switch = False
    anonymous: Switch = True
    send_user_object: Switch = True
    disconnect_on_fail: Switch = True
    store_connected_users: Switch = True


class Keepalive(Settings, frozen=True, kw_only=True):
    """WebSocket Pings that find dead peers without heartbeats (RFC 6455 section 5.5.2).

    Attributes:
        enabled: on by default.
        interval: seconds of silence after which a Ping is sent.
        timeout: seconds to wait for any sign of life after it.
    """

    enabled: Switch = True
    interval: Seconds = 25.0
    timeout: Seconds = 20.0


class Limits(Settings, frozen=True, kw_only=True):
    """Limits of what one connection may cost, and of how many there may be.

    A connection over a limit of their number is refused before it is one, with 503 and `Retry-After`, counted
    and logged once a minute. Of connections and handshakes in all, a tenth is kept for addresses that have
    logged in lately, where the server has an authenticator.

    Attributes:
        max_message: bytes of one message from a client.
        max_buffered: bytes waiting for a client that reads too slowly; beyond, the client is closed
            with 4000 and may come back.
        max_node_buffer: bytes of memory that wait for all clients of a server together that read too slowly.
            From three quarters of it on, the clients for which most waits are closed with 4000 and may come
            back; what waits for those that are closing is dropped if the rest is needed, too.
        max_fragments: fragments of less than 4 096 bytes that one message may be split into (RFC 6455
            section 5.4).
        max_queued: messages of one client waiting for its handlers; beyond, reading pauses.
        max_queued_bytes: bytes of these messages; beyond, reading pauses. None for as many as one
            message may have, so that one always fits.
        max_requests: requests to one client that wait for its answers, and requests of one client
            that wait for the answers of portals.
        guest_max_message: bytes of one message of a guest: a client that has not logged in, where the
            server has an authenticator. What follows a login may be as large as a user's; it waits.
        guest_max_queued: as `max_queued`, for a guest.
        guest_max_queued_bytes: as `max_queued_bytes`, for a guest; while its login waits for the answer,
            the message that is arriving counts as well.
        guest_max_requests: requests of a guest that wait for answers; others are answered `busy`.
        guests_max_waiting: bytes that all guests of a server have waiting; beyond, the newest that has at
            least an average share is closed with 1013 and may come back.
        handler_threads: plain `def` handlers that run at the same time in one server.
        max_connections: connections to one server; None for as many as its file descriptors allow, beyond
            which clients wait.
        max_handshakes: handshakes of TLS and HTTP that are under way at once in one server; beyond, clients
            wait. One address may have `max_unauthenticated_per_address` of them, and is cut off beyond.
        max_handshakes_per_second: handshakes that one server begins in a second, and at once after a pause;
            beyond, clients wait. None for no limit.
        max_logins: logins under way at once in one server; others wait, unread, and until none waits, the
            server accepts no connections. A login whose client has gone by its turn is dropped.
        max_lag: seconds by which the event loop may be late; beyond, the server accepts no connections until
            it is less than half as late.
        max_wait: seconds that a client may have waited to be accepted. One that has waited longer, and would
            give up before it is served, is answered 503 with `Retry-After`; before TLS it is cut off.
        max_unauthenticated_per_address: connections from one address to one server that have not logged in;
            in IPv6 from one network of 64 bits. It holds where the server has an authenticator, and for
            connections without a key to an API on the same port. None for no limit.
        max_connections_per_id: connections of one id to one server, not to the whole cluster. None for no
            limit.
        when_id_is_full: what happens at a further login: `refuse` closes it with 4002, and its client may
            come back; `replace` closes the oldest connection of the id with 4003, and its client may not, or
            two devices would close each other for ever. Clients of 1.x come back after any code.
        max_failed_logins_per_address: logins from one address to one server that may fail, and one more
            every 30 seconds; in IPv6 from one network of 64 bits. Beyond, its attempts get turns with
            pauses between them of 1 second, then 2, up to 16; up to 2 if a login from there has
            succeeded. An attempt waits 5 seconds at most for its turn, or is refused with 1013; the
            client may come back. No person mistypes a password so often, nor do the people of an office
            within some minutes. None for no limit.
        exempt_networks: networks whose addresses have no such limit, as many clients come from one address
            of a proxy. By default this machine and private networks. A proxy that has another address
            belongs here, too, unless it is one of `trusted_proxies`.
    """

    max_message: Count = 1024 * 1024
    max_buffered: Count = 8 * 1024 * 1024
    max_node_buffer: Count = 256 * 1024 * 1024
    max_fragments: Count = 64
    max_queued: Count = 64
    max_queued_bytes: Count | None = None
    max_requests: Count = 64
    guest_max_message: Count = 64 * 1024
    guest_max_queued: Count = 16
    guest_max_queued_bytes: Count = 128 * 1024
    guest_max_requests: Count = 8
    guests_max_waiting: Count = 32 * 1024 * 1024
    handler_threads: Count = 32
    max_connections: Count | None = None
    max_handshakes: Count = 1000
    max_handshakes_per_second: Count | None = 2000
    max_logins: Count = 1000
    max_lag: Interval = 0.25
    max_wait: Interval = 5.0
    max_unauthenticated_per_address: Count | None = 256
    max_connections_per_id: Count | None = None
    when_id_is_full: Annotated[
        Literal["refuse", "replace"], msgspec.Meta(description="'refuse' or 'replace'")
    ] = "refuse"
    max_failed_logins_per_address: Count | None = 32
    exempt_networks: Networks | None = PRIVATE_NETWORKS

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_networks("limits.exempt_networks", self.exempt_networks)

    @property
    def most_queued_bytes(self) -> int:
        """`max_queued_bytes`, or what it stands for."""
        return self.max_message if self.max_queued_bytes is None else self.max_queued_bytes


def _check_networks(path: str, networks: tuple[str, ...] | None) -> None:
    for network in networks or ():
        try:
            ip_network(network)
        except ValueError:
            raise InvalidSettings(path, _NETWORKS, network) from None


Rate = Annotated[
    float, msgspec.Meta(gt=0, le=2**31, description="a number a second, more than 0 and up to 2147483648")
]

Excess = Literal["delay", "error", "drop", "close"]
"""What happens to messages that are over a rate."""

ExcessSetting = Annotated[Excess, msgspec.Meta(description="'delay', 'error', 'drop' or 'close'")]
"""The same as a setting."""


class Rates(Settings, frozen=True, kw_only=True):
    """How much clients may send in a second; `mesa_ws.middleware.RateLimit` adds limits of one type.

    The defaults are for floods alone. A game client sends 60 to 128 messages a second; one that was offline,
    or a user who pastes a book into a chat, sends some thousand at once; an upload in messages of 1 MiB
    fills a line of 100 Mbit/s. A service that speaks for many devices through one connection may need more.

    Attributes:
        messages_per_connection: messages and requests of one connection in a second; heartbeats,
            acknowledgements, answers and logins do not count. None for no limit.
        bytes_per_connection: bytes of these messages. None for no limit.
        messages_per_id: the same of all connections of one id to one server.
        bytes_per_id: the same.
        burst: seconds whose messages and bytes may come at once, after a time in which less came.
        excess: what happens to messages beyond. `delay` handles them later, and stops reading a client when
            too many wait; nothing is lost. `error` answers requests with the code `busy`, and delays other
            messages. `drop` answers requests likewise, and drops other messages. `close` closes with 4008;
            the client may come back.
    """

    messages_per_connection: Count | None = 2000
    bytes_per_connection: Count | None = 16 * 1024 * 1024
    messages_per_id: Count | None = 4000
    bytes_per_id: Count | None = 32 * 1024 * 1024
    burst: Interval = 10.0
    excess: ExcessSetting = "delay"


class Rules(Settings, frozen=True, kw_only=True):
    """Rules of 1.x that HELLO announces.

    Attributes:
        enforce_equal_versions: clients have to send CLIENT_VERSION with `version`, or are closed
            with 1002.
        version: the version they have to name.
        store_messages: keep the last messages of each connection in `connection.messages`.
    """

    enforce_equal_versions: Switch = False
    version: Text = "1.5.8"
    store_messages: Switch = False


class Sync(Settings, frozen=True, kw_only=True):
    """Message sync: which messages are stored for clients who are away, and how they are delivered.

    The first half matters where messages are dispatched: in a dispatcher, and in a server for what
    it sends itself. The second half matters in servers, whether or not they store anything.

    Attributes:
        enabled: whether messages are stored until their recipients have acknowledged them.
        max_messages: messages that wait for one id; beyond, the oldest are dropped and counted.
        max_bytes: bytes of messages that wait for one id; beyond, the oldest are dropped and
            counted. No message may be larger.
        ttl: seconds that a message waits; after that it is dropped and counted.
        allow_eviction: also store in a Redis that may evict messages by itself when it is full.
        redelivery_interval: seconds between two stored messages to a 1.x client that has logged
            in; None for no pause.
        resume_window: seconds for which messages that one device has received are kept for the
            other devices of the same id, if they speak wire 2.
        proof: what counts as the acknowledgement of a 1.x client: `heartbeat`, its answer to a
            heartbeat (op 11), which it sends after handling the message; or `ping`, a Pong, which
            only says that the message has reached the client's machine or a proxy.
    """

    enabled: Switch = False
    max_messages: Count = 1000
    max_bytes: Count = 8 * 1024 * 1024
    ttl: Lifetime = 7 * 86_400.0
    allow_eviction: Switch = False
    redelivery_interval: Interval | None = None
    resume_window: Window = 120.0
    proof: Annotated[Literal["heartbeat", "ping"], msgspec.Meta(description="'heartbeat' or 'ping'")] = (
        "heartbeat"
    )


class Presence(Settings, frozen=True, kw_only=True):
    """When an id counts as offline.

    Attributes:
        grace: seconds that an id may be away before it counts as offline, so that a client that
            comes back soon is not reported.
    """

    grace: Window = 5.0


Types = Annotated[tuple[str, ...], msgspec.Meta(description="a list of message types, or None for all")]
"""A selection of messages, by their type."""

Durability = Literal["memory", "fsync", "replicated"]
"""Where a message is stored when its dispatch returns: in the backend's memory, on its disk, or on all
of its replicas."""

DurabilityLevel = Annotated[Durability, msgspec.Meta(description="'memory', 'fsync' or 'replicated'")]
"""The same as a setting."""


class Portals(Settings, frozen=True, kw_only=True):
    """How the events of clients are handed to portals, the processes that handle them.

    Attributes:
        enabled: whether connections, authentications, messages and disconnections are kept until a
            portal has handled them. Off by default, unless `types` is given.
        distribute_load: whether portals share the connections; if not, one portal gets all, and the
            others stand by.
        backlog_max: events that wait for portals in the whole cluster; beyond, servers stop reading
            from clients that send something until portals have caught up.
        backlog_bytes: memory that these events may take; beyond, the same.
        durability: where an event has to be stored before it counts as kept: `memory`, `fsync` or
            `replicated`, as for messages. Until then the server does not read from its connection.
        types: types of the messages that are kept; others, and those without a type, are for the
            handlers of servers alone. None for all messages.
    """

    enabled: Switch | None = None
    distribute_load: Switch = True
    backlog_max: Count = 100_000
    backlog_bytes: Count = 1024 * 1024 * 1024
    durability: DurabilityLevel = "memory"
    types: Types | None = None

    def __post_init__(self) -> None:
        if isinstance(self.types, list | tuple | set | frozenset):
            msgspec.structs.force_setattr(self, "types", [plain(each) for each in self.types])
        super().__post_init__()
        if self.enabled is None:
            msgspec.structs.force_setattr(self, "enabled", self.types is not None)


Wire = Literal["native", "mesa1"]
"""How the processes of a cluster talk through Redis: in Mesa's own way, or as @cryb/mesa 1.x does."""


class ServerSettings(Settings, frozen=True, kw_only=True):
    """All settings of a server; a feature may be given in any of its forms.

    Attributes:
        trusted_proxies: networks of proxies, which name the addresses of their clients. Limits count these,
            and applications see them. None for no proxy: any client could name an address.
        proxy_header: the header field that these proxies write: `x-forwarded-for` or `forwarded`. Proxies
            pass the other one on as a client has written it, so it is not read.
    """

    _prefix: ClassVar[str] = ""
    namespace: Namespace | None = None
    allowed_origins: OriginList | None = None
    wire: Annotated[Wire, msgspec.Meta(description="'native' or 'mesa1'")] = "native"
    import_from_1x: Switch = False
    trusted_proxies: Networks | None = None
    proxy_header: Annotated[ProxyHeader, msgspec.Meta(description="'x-forwarded-for' or 'forwarded'")] = (
        "x-forwarded-for"
    )
    sync: Sync = Sync()
    presence: Presence = Presence()
    portals: Portals = Portals()
    heartbeat: Heartbeat = Heartbeat()
    reconnect: Reconnect = Reconnect()
    authentication: Authentication = Authentication()
    keepalive: Keepalive = Keepalive()
    limits: Limits = Limits()
    rates: Rates = Rates()
    rules: Rules = Rules()

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_networks("trusted_proxies", self.trusted_proxies)


class ServerOptions(TypedDict, total=False):
    """The fields of `ServerSettings` as they may be written."""

    namespace: str | None
    allowed_origins: Sequence[str] | None
    wire: Wire
    import_from_1x: bool
    trusted_proxies: "Sequence[str] | None"
    proxy_header: ProxyHeader
    sync: "Sync | Mapping[str, Any] | bool"
    presence: "Presence | Mapping[str, Any]"
    portals: "Portals | Mapping[str, Any] | bool"
    heartbeat: "Heartbeat | Mapping[str, Any] | bool"
    reconnect: "Reconnect | Mapping[str, Any] | bool"
    authentication: "Authentication | Mapping[str, Any]"
    keepalive: "Keepalive | Mapping[str, Any] | bool"
    limits: "Limits | Mapping[str, Any]"
    rates: "Rates | Mapping[str, Any]"
    rules: "Rules | Mapping[str, Any]"


def features(settings: type[Settings]) -> dict[str, type[Settings]]:
    """Return the fields that have settings of their own, by name."""
    return {field.name: field.type for field in msgspec.structs.fields(settings) if _is_feature(field.type)}


def check_namespace(namespace: object) -> str | None:
    """Return `namespace` if it is valid in the names of keys; raise `InvalidSettings` if not."""
    return ServerSettings(namespace=namespace).namespace  # type: ignore[arg-type]


def check_wire(wire: object) -> Wire:
    """Return `wire` if it is `"native"` or `"mesa1"`; raise `InvalidSettings` if not."""
    return ServerSettings(wire=wire).wire  # type: ignore[arg-type]


class Reconnection(Settings, frozen=True, kw_only=True):
    """How the client reconnects after it has lost its connection.

    Before the n-th attempt in a row the client waits for an interval and a random time that grows
    with n: up to one interval, then two, four and so on. The random part keeps the clients of a
    restarted server from returning all at once. A connection that lasted longer than `max_pause`,
    and than the pause before it, starts the count over.

    Attributes:
        enabled: on by default.
        interval: seconds to wait at least, unless the server asks for more; None for the interval
            that the server asks for, or 1 second.
        max_pause: seconds that interval and random part together may grow to. The client still
            waits a longer interval than four fifths of that, and up to a quarter more.
        authenticate: whether the client then authenticates by itself, as it did before.
    """

    _prefix: ClassVar[str] = "reconnect."
    enabled: bool = True
    interval: Seconds | None = None
    max_pause: Seconds = 5.0
    authenticate: bool = True


class ClientLimits(Settings, frozen=True, kw_only=True):
    """Limits of what a connection may cost the client, and of how long it waits for its server.

    Attributes:
        max_message: bytes of one message from the server.
        max_fragments: fragments of less than 4 096 bytes that one message may be split into (RFC 6455
            section 5.4).
        max_queued: messages waiting to be handled; beyond, reading pauses; while the client waits
            for an answer, only beyond eight times as many.
        max_requests: requests that wait for answers, in each direction.
        connect_timeout: seconds from the first packet to the server's greeting.
        close_timeout: seconds the server has to answer a close frame.
    """

    _prefix: ClassVar[str] = "limits."
    max_message: Count = 16 * 1024 * 1024
    max_fragments: Count = 4096
    max_queued: Count = 64
    max_requests: Count = 64
    connect_timeout: Seconds = 10.0
    close_timeout: Seconds = 5.0


class ClientSettings(Settings, frozen=True, kw_only=True):
    """All settings of a client, except its address."""

    _prefix: ClassVar[str] = ""
    queue_size: Count = 1000
    reconnect: Reconnection = Reconnection()
    keepalive: Keepalive = Keepalive()
    limits: ClientLimits = ClientLimits()
