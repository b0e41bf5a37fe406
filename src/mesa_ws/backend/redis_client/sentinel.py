"""Blocking client of one Sentinel."""

import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError

from .command import Command
from .connection import MAX_IDLE, BlockingConnection, disconnect_on_error, is_ended, read_reply
from .failures import raise_first
from .master import Report

DEFAULT_PORT = 26379

LIMIT = 1.0
"""Seconds that a Sentinel has for each step: connecting, and answering."""

CHANGES = ("+switch-master", "+promoted-slave", "+config-update-from")
"""Channels on which a Sentinel announces that another Redis is, or becomes, the master."""


class Sentinels(NamedTuple):
    """Addresses of Sentinels, and the master that they watch.

    Args:
        hosts: host and port of each.
        service: name of the master.
        options: redis-py options for connections to the Sentinels themselves.
    """

    hosts: tuple[tuple[str, int], ...]
    service: str
    options: Mapping[str, Any]

    @property
    def name(self) -> object:
        """Key of this configuration: equal keys lead to the same masters in the same way."""
        return (
            self.hosts,
            self.service,
            tuple(sorted((key, repr(value)) for key, value in self.options.items())),
        )


class Sentinel:
    """One of the Sentinels. The caller ensures that one thread at a time uses it."""

    def __init__(self, host: str, port: int, sentinels: Sentinels) -> None:
        self._where: dict[str, Any] = {"host": host, "port": port}
        self._service = sentinels.service
        self._options = {name: value for name, value in sentinels.options.items() if name != "ssl"}
        self._class: Any = redis.SSLConnection if sentinels.options.get("ssl") else redis.Connection
        self._connection: BlockingConnection | None = None
        self._used_at = 0.0

    def ask(self) -> Report:
        """Ask for the master, within about `LIMIT` seconds for each step.

        `SENTINEL MASTER` knows the epoch. During a failover it still names the old master, while
        `GET-MASTER-ADDR-BY-NAME` names the new one already; asked second, it is never the older answer.

        Raises:
            redis.RedisError, OSError: the Sentinel did not answer, or knows no such master.
        """
        connection = self._take() or self._connect()
        with disconnect_on_error(connection):
            questions: list[Command] = [
                ("SENTINEL", "MASTER", self._service),
                ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service),
            ]
            state, address = _talk(connection, questions)
        self._connection, self._used_at = connection, time.monotonic()
        raise_first([state, address])
        return _report(state, address)

    def subscribe(self) -> BlockingConnection:
        """Return a new connection on which the Sentinel tells of changes.

        Raises:
            redis.RedisError, OSError: there is none.
        """
        connection = self._connect()
        with disconnect_on_error(connection):
            raise_first(_talk(connection, [("SUBSCRIBE", *CHANGES)], replies=len(CHANGES)))
        return connection

    def is_about(self, message: object) -> bool:
        """Whether a published message is about this master."""
        match message:
            case [b"message", bytes(), bytes(text)]:
                return self._service.encode() in text.split()
        return False

    def close(self) -> None:
        """Disconnect."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def _take(self) -> BlockingConnection | None:
        """Return the connection of the last question, if it is still usable."""
        connection, self._connection = self._connection, None
        if connection is None:
            return None
        if time.monotonic() - self._used_at >= MAX_IDLE or is_ended(connection):
            connection.disconnect()
            return None
        return connection

    def _connect(self) -> BlockingConnection:
        limits = {"socket_timeout": LIMIT, "socket_connect_timeout": LIMIT, "protocol": 2}
        connection: BlockingConnection = self._class(
            **self._where, **self._options, **limits, retry=Retry(NoBackoff(), 0)
        )
        with disconnect_on_error(connection):
            connection.connect()
        return connection


def cut(connection: BlockingConnection) -> None:
    """Shut down a connection that another thread is reading; that thread closes it."""
    sock = getattr(connection, "_sock", None)
    if sock is not None:
        with suppress(OSError):
            socket.socket.shutdown(
                sock, socket.SHUT_RDWR
            )  # the method of a TLS socket would change state that the other thread uses


def _talk(
    connection: BlockingConnection, commands: list[Command], *, replies: int | None = None
) -> list[Any]:
    connection.send_packed_command(connection.pack_commands(commands))
    deadline = time.monotonic() + LIMIT
    return [read_reply(connection, deadline) for _ in range(replies or len(commands))]


def _report(state: Any, address: Any) -> Report:
    if address is None:
        raise MasterNotFoundError("the Sentinel knows no such master")
    try:
        about = dict(zip(state[::2], state[1::2], strict=False))
        host, port = address
        epoch = int(about[b"config-epoch"])
        # During a failover, its number of replicas is that of the old master.
        is_same = (about[b"ip"], about[b"port"]) == (host, port)
        return Report(host.decode(), int(port), epoch, int(about[b"num-slaves"]) if is_same else 0)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RedisConnectionError(
            f"the reply of the Sentinel is no description of a master: {error!r}"
        ) from None
