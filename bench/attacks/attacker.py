"""Hostile clients. They yield the processor to everybody else, so that the server alone makes others wait."""

import json
import os
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
    """The bytes of one client: some to begin with, or some that it repeats without end."""

    first: bytes = b""
    again: bytes = b""


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
    "backlog": Stream(again=_many(wire.frame(b'{"op":0,"t":"NOTHING"}'))),
}


def send_without_end(stream: Stream, port: int, *, tls: bool) -> None:
    """Be one hostile client; when the server closes it, come back."""
    while True:
        try:
            with connected(port, tls=tls) as socket:
                for chunk in repeat(stream.again):
                    socket.sendall(chunk)
        except OSError:
            time.sleep(0.01)


def send_and_stay(stream: Stream, port: int, *, tls: bool, connections: int) -> None:
    """Be many hostile clients that send something and stay."""
    staying = []
    while len(staying) < connections:
        try:
            staying.append(connected(port, tls=tls))
            staying[-1].sendall(stream.first)
        except OSError:
            time.sleep(0.01)
    while True:
        time.sleep(1)


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
