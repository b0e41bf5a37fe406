"""HTTP peers of a dispatcher: each behaves as its script says, in threads."""

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from mesa_ws.backend.http.routes import DISPATCH
from mesa_ws.messages.receipt import Receipt

PAUSE = 0.015
"""Seconds between two bytes of a peer that sends byte by byte."""


class Peer:
    """Listens, and runs a script on each connection, in threads.

    Attributes:
        url: URL that it listens on.
        requests: the connection number and the message ids of each request.
    """

    def __init__(self, script: "Script", tls: ssl.SSLContext | None) -> None:
        self.requests: list[tuple[int, list[str]]] = []
        self.stopped = threading.Event()
        self._script = script
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self._talks: list[threading.Thread] = []
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    @property
    def body(self) -> bytes:
        """Return receipts for the last request."""
        return DISPATCH.encode_answer([Receipt(id, {}, 1) for id in self.requests[-1][1]])

    @property
    def talking(self) -> int:
        """Return the number of open connections."""
        return sum(talk.is_alive() for talk in self._talks)

    def read(self, connection: socket.socket, number: int) -> bool:
        """Read one request; return False when the connection ended before the request did."""
        head = body = b""
        while b"\r\n\r\n" not in head:
            received = connection.recv(65536)
            if not received:
                return False
            head += received
        head, _, body = head.partition(b"\r\n\r\n")
        found = re.search(rb"(?i)content-length: (\d+)", head)
        assert found is not None
        while len(body) < int(found[1]):
            body += connection.recv(65536)
        self.requests.append((number, [dispatch["id"] for dispatch in json.loads(body)["batch"]]))
        return True

    def stop(self) -> None:
        """Close all connections, and wait for their threads."""
        self.stopped.set()
        self._shut_down(self._listener)
        self._accepting.join()
        self._listener.close()
        for connection in self._connections:
            self._shut_down(connection)
        self.finish()

    def finish(self) -> None:
        """Wait until all threads have ended."""
        for talk in self._talks:
            talk.join()

    @staticmethod
    def _shut_down(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                if self._tls is not None:
                    connection = self._tls.wrap_socket(
                        connection, server_side=True, do_handshake_on_connect=False
                    )
                self._connections.append(connection)
                talk = threading.Thread(target=self._talk, args=(connection, len(self._talks)))
                self._talks.append(talk)
                talk.start()

    def _talk(self, connection: socket.socket, number: int) -> None:
        with suppress(OSError), connection:
            self._script(self, connection, number)


Script = Callable[[Peer, socket.socket, int], None]
"""Talks on one connection, the n-th of its peer."""


def answered(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def served(peer: Peer, connection: socket.socket, number: int) -> None:
    """Answer every request like a server."""
    while peer.read(connection, number):
        connection.sendall(answered(peer.body))


def silent(peer: Peer, connection: socket.socket, number: int) -> None:
    """Read the request and do not answer."""
    peer.read(connection, number)
    peer.stopped.wait()


def deaf(peer: Peer, connection: socket.socket, number: int) -> None:
    """Accept the connection and read nothing."""
    peer.stopped.wait()


def until_hung_up(peer: Peer, connection: socket.socket, number: int) -> None:
    """Read until the client closes the connection."""
    while connection.recv(65536):
        pass


def cutting(peer: Peer, connection: socket.socket, number: int) -> None:
    """Read the request and close the connection."""
    peer.read(connection, number)


def cutting_the_second(peer: Peer, connection: socket.socket, number: int) -> None:
    """Answer one request, read the next one and close the connection."""
    peer.read(connection, number)
    connection.sendall(answered(peer.body))
    peer.read(connection, number)


def hanging_up(peer: Peer, connection: socket.socket, number: int) -> None:
    """Answer one request and close the connection without announcing that."""
    peer.read(connection, number)
    connection.sendall(answered(peer.body))


def cutting_the_answer(peer: Peer, connection: socket.socket, number: int) -> None:
    """Send half of an answer and close the connection."""
    peer.read(connection, number)
    connection.sendall(answered(peer.body)[:-5])


def dripping_headers(peer: Peer, connection: socket.socket, number: int) -> None:
    """Send headers without end, one byte after another."""
    peer.read(connection, number)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while not peer.stopped.wait(PAUSE):
        connection.sendall(b"x")


def dripping_the_body(peer: Peer, connection: socket.socket, number: int) -> None:
    """Send a body without end, one byte after another."""
    peer.read(connection, number)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not peer.stopped.wait(PAUSE):
        connection.sendall(b"x")


def answering(answer: bytes) -> Script:
    """Read a request and send `answer`."""

    def script(peer: Peer, connection: socket.socket, number: int) -> None:
        peer.read(connection, number)
        connection.sendall(answer)

    return script


@contextmanager
def peer_that(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[Peer]:
    peer = Peer(script, tls)
    try:
        yield peer
    finally:
        peer.stop()
