"""A fake Sentinel that reports what a test sets; it serves each connection in a thread."""

import socketserver
import threading
from contextlib import suppress
from typing import Any

import hiredis


class FakeSentinel:
    """Answers the queries of Mesa to a Sentinel, on a free port of 127.0.0.1.

    Attributes:
        port: port that it listens on.
        master: host and port that it reports; None where it knows no master.
        epoch: configuration epoch.
        replicas: number of replicas that it reports.
        promoted: host and port of the promoted replica during a failover, while `master` is the old one.
        asked: number of queries.
        answers: whether it answers queries; otherwise they wait.
    """

    def __init__(self, port: int, epoch: int = 1) -> None:
        self.master: tuple[str, int] | None = ("127.0.0.1", port)
        self.promoted: tuple[str, int] | None = None
        self.epoch = epoch
        self.replicas = 0
        self.asked = 0
        self.answers = threading.Event()
        self.answers.set()
        self._handlers: set[_Handler] = set()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.sentinel = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.port = int(self._server.server_address[1])

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._handlers)

    @property
    def subscribers(self) -> int:
        """Number of connections that have subscribed."""
        return sum(handler.has_subscribed for handler in list(self._handlers))

    def switch(self, port: int, epoch: int) -> None:
        """Report another master, and notify subscribers."""
        assert self.master is not None
        host, old = self.master
        self.master, self.epoch = (host, port), epoch
        self.publish("+switch-master", f"mymaster {host} {old} {host} {port}")

    def publish(self, channel: str, text: str) -> None:
        """Notify subscribers."""
        for handler in list(self._handlers):
            if handler.has_subscribed:
                handler.reply([b"message", channel.encode(), text.encode()])

    def close(self) -> None:
        """Stop."""
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()
        for handler in list(self._handlers):
            handler.end()
        self._thread.join()

    def report(self) -> list[Any]:
        """Return the reply to SENTINEL MASTER."""
        assert self.master is not None
        host, port = self.master
        state = {
            "name": "mymaster",
            "ip": host,
            "port": port,
            "config-epoch": self.epoch,
            "num-slaves": self.replicas,
        }
        return [part for name, value in state.items() for part in (name.encode(), str(value).encode())]


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    sentinel: FakeSentinel


class _Handler(socketserver.BaseRequestHandler):
    """One connection."""

    has_subscribed = False

    def handle(self) -> None:
        sentinel = self._sentinel
        sentinel._handlers.add(self)
        reader = hiredis.Reader()
        try:
            while data := self.request.recv(65536):
                reader.feed(data)
                while (command := reader.gets()) is not False:
                    self._answer([part.decode().upper() for part in command])
        except OSError:
            pass
        finally:
            sentinel._handlers.discard(self)

    def reply(self, value: Any) -> None:
        with suppress(OSError):
            self.request.sendall(_encoded(value))

    def end(self) -> None:
        with suppress(OSError):
            self.request.shutdown(2)

    @property
    def _sentinel(self) -> FakeSentinel:
        assert isinstance(self.server, _Server)
        return self.server.sentinel

    def _answer(self, command: list[str]) -> None:
        sentinel = self._sentinel
        match command:
            case ["SENTINEL", "MASTER", _]:
                sentinel.asked += 1
                sentinel.answers.wait()
                self.reply(sentinel.report() if sentinel.master else hiredis.ReplyError("ERR No such master"))
            case ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", _]:
                named = sentinel.promoted or sentinel.master
                self.reply([str(part).encode() for part in named] if named else None)
            case ["SUBSCRIBE", *channels]:
                self.has_subscribed = True
                for number, channel in enumerate(channels):
                    self.reply([b"subscribe", channel.lower().encode(), number + 1])
            case ["PING"]:
                self.reply([b"pong", b""] if self.has_subscribed else b"PONG")
            case _:
                self.reply(b"OK")


def _encoded(value: Any) -> bytes:
    match value:
        case None:
            return b"*-1\r\n"
        case int():
            return b":%d\r\n" % value
        case bytes():
            return b"$%d\r\n%s\r\n" % (len(value), value)
        case list():
            return b"*%d\r\n%s" % (len(value), b"".join(map(_encoded, value)))
    return f"-{value}\r\n".encode()
