"""Hostile clients. They yield the processor to everybody else, so that the server alone makes others wait."""

import json
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Mapping
from functools import partial
from itertools import repeat
from typing import NamedTuple

from .. import wire
from .neighbour import connected

CHUNK = 1 << 20


class Stream(NamedTuple):
    """The bytes of one client: some to begin with, or some that it repeats without end.

    Attributes:
        is_narrow: whether the system has to buffer little of what the server sends.
    """

    first: bytes = b""
    again: bytes = b""
    is_narrow: bool = False


def _nested() -> bytes:
    return b'{"op":0,"d":[' + b"[]," * (CHUNK // 3 - 20) + b"[]]}"


def _many(frame: bytes) -> bytes:
    return frame * (CHUNK // len(frame))


STREAMS: Mapping[str, Stream] = {
    "messages": Stream(again=_many(wire.frame(b'{"op":0,"t":"NOTHING"}'))),
    "probes": Stream(again=_many(wire.frame(b'{"op":1,"x":{"r":"7"}}'))),
    "pings": Stream(again=_many(wire.frame(b"", opcode=0x9))),
    "fragments": Stream(
        b"",
        _many(
            b"".join(wire.frame(bytes([byte]), opcode=not n, fin=n == 4) for n, byte in enumerate(b'"abc"'))
        ),
    ),
    "nested": Stream(again=wire.frame(_nested())),
    "unfinished": Stream(b"".join(wire.frame(bytes(6000), opcode=not n, fin=False) for n in range(50))),
    "unread": Stream(wire.authentication("deaf"), is_narrow=True),
    "backlog": Stream(again=_many(wire.frame(b'{"op":0,"t":"NOTHING"}'))),
}


def send_without_end(stream: Stream, port: int, *, tls: bool) -> None:
    """Be one hostile client; when the server closes it, come back."""
    while True:
        try:
            with connected(port, tls=tls) as opened:
                for chunk in repeat(stream.again):
                    opened.sendall(chunk)
        except OSError:
            time.sleep(0.01)


def send_and_stay(stream: Stream, port: int, *, tls: bool, connections: int) -> None:
    """Be many hostile clients that send something and stay; when the server closes one, it comes back."""
    staying: dict[int, socket.socket] = {}
    watching = select.poll()
    while True:
        while len(staying) < connections:
            try:
                opened = connected(port, tls=tls, is_narrow=stream.is_narrow)
                opened.sendall(stream.first)
            except OSError:
                time.sleep(0.01)
            else:
                staying[opened.fileno()] = opened
                watching.register(opened, select.POLLRDHUP)
        for descriptor, _ in watching.poll():
            watching.unregister(descriptor)
            staying.pop(descriptor).close()


def main() -> None:
    """Obey orders until standard input ends."""
    os.nice(19)
    for line in sys.stdin:
        details = json.loads(line)
        stream, connections = STREAMS[details["attack"]], details["connections"]
        if stream.again:
            works = [partial(send_without_end, stream, details["port"], tls=details["tls"])] * connections
        else:
            works = [
                partial(send_and_stay, stream, details["port"], tls=details["tls"], connections=connections)
            ]
        for work in works:
            threading.Thread(target=work, daemon=True).start()
        print("{}", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
