"""Peers of a benchmark: our server, a bare loop over the same library, and servers of others.

| peer | what it is | as its documentation advises |
|---|---|---|
| `picows` | the least over the WebSocket library that Mesa uses; through Redis, hiredis alone | |
| `redis-py` | the same server; the caller uses redis-py | a pipeline where several go at once |
| `mesa-ws` | this server as an application writes it | uvloop |
| `@cryb/mesa` | the npm package on Node | |
| `uWebSockets` | through socketify | topics; its own loop, as asyncio's is polled |
| `Centrifugo` | one process, told by its HTTP API | personal channels, tokens, Redis engine, batches |
| `Socket.IO` | on Node | WebSocket alone, Redis adapter and emitter, bufferutil |
| `python-socketio` | over uvicorn | WebSocket alone, uvloop, Redis manager |
| `Channels` | Django Channels over uvicorn | channels_redis, groups |

Pings are on everywhere, with an interval longer than a run.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .errors import Skipped
from .install import go_program, node_with, python_with

OURS = "mesa-ws"
BARE = "picows"
NPM = "@cryb/mesa"
REDIS_PY = "redis-py"
UWS = "uWebSockets"
CENTRIFUGO = "Centrifugo"
SOCKET_IO = "Socket.IO"
PYTHON_SOCKETIO = "python-socketio"
CHANNELS = "Channels"

BASIC = (BARE, OURS, NPM)
"""Peers that obey every order, and put the same bytes on the wire."""

NPM_VERSION = "1.5.8"
_HERE = Path(__file__).parent
_PYTHON = (sys.executable, "-m")
_REDIS = "redis[hiredis]==6.4.0"
"""What waits for messages in libraries of others has no time limit of its own with it, as with later ones."""

_UVICORN = ("uvicorn==0.54.0", "uvloop==0.23.0", "websockets==17.4")


@dataclass(frozen=True)
class Peer:
    """A server and, where Redis is used, a dispatcher, as programs.

    Attributes:
        name: for tables.
        server: command of the server; the URL of a Redis may follow, then `arguments`.
        dispatcher: command of the dispatcher; the URL of a Redis follows, the recipient, and `arguments`.
        environment: variables that all need.
        blocking: command of a dispatcher that waits for each message; as `dispatcher`.
        dialect: what its clients speak; see `bench.load.dialects`.
        version: of the program.
        arguments: `sync`, to have messages stored.
        calls_server: whether its dispatchers call the server, by HTTP, and not Redis.
        needs_redis: whether even one process sends through Redis.
    """

    name: str
    server: tuple[str, ...] = ()
    dispatcher: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    blocking: tuple[str, ...] = ()
    dialect: str = "mesa"
    version: str = ""
    arguments: tuple[str, ...] = ()
    needs_redis: bool = False
    calls_server: bool = False


def python_peers() -> list[Peer]:
    """Return the bare loop, which the others are compared with, and our server."""
    bare = (*_PYTHON, "bench.servers.bare")
    return [
        Peer(BARE, bare, (*_PYTHON, "bench.dispatchers.bare")),
        Peer(
            OURS,
            (*_PYTHON, "bench.servers.ours"),
            (*_PYTHON, "bench.dispatchers.ours"),
            blocking=(*_PYTHON, "bench.dispatchers.ours_blocking"),
        ),
    ]


def find_peers(names: Sequence[str]) -> Iterator[Peer | Skipped]:
    """Make the peers with these names ready to run, or say why one cannot be."""
    for name in names:
        try:
            yield _FINDERS[name]()
        except Skipped as skip:
            yield skip


def stored(peer: Peer) -> Peer:
    """Return a peer that stores messages, and whose clients acknowledge them where it has that."""
    word, dialect = {OURS: ("sync", "mesa-2"), CENTRIFUGO: ("history", peer.dialect)}[peer.name]
    return replace(peer, name=f"{peer.name}, {word}", dialect=dialect, arguments=("sync",))


def _npm() -> Peer:
    node, modules = node_with(NPM, f"@cryb/mesa@{NPM_VERSION}")
    command = (node, "--expose-gc")  # before memory is read
    return Peer(
        NPM,
        (*command, str(_HERE / "servers" / "npm.js")),
        (*command, str(_HERE / "dispatchers" / "npm.js")),
        {"NODE_PATH": str(modules)},
        version=NPM_VERSION,
    )


def _redis_py() -> Peer:
    dispatcher = (*_PYTHON, "bench.dispatchers.redis_py")
    return Peer(
        REDIS_PY,
        (*_PYTHON, "bench.servers.bare"),
        dispatcher,
        {"BENCH_CHANNEL": "bench-redis-py"},
        blocking=(*dispatcher, "blocking"),
    )


def _uws() -> Peer:
    version = "0.0.31"
    python = python_with(UWS, f"socketify=={version}")
    return Peer(UWS, (python, "-m", "bench.servers.uws"), version=f"socketify {version}")


def _centrifugo() -> Peer:
    version, cent = "v6.9.1", "5.2.0"
    program = go_program(CENTRIFUGO, "github.com/centrifugal/centrifugo/v6", version)
    python = python_with("pycent", f"cent=={cent}")
    return Peer(
        CENTRIFUGO,
        (*_PYTHON, "bench.servers.centrifugo", program),
        (*_PYTHON, "bench.dispatchers.centrifugo"),
        blocking=(python, "-m", "bench.dispatchers.pycent"),
        dialect="centrifugo",
        version=version,
        calls_server=True,
    )


def _socket_io() -> Peer:
    version = "4.8.4"
    redis = ("@socket.io/redis-adapter@8.3.0", "@socket.io/redis-emitter@5.1.0", "redis@5.8.0")
    node, modules = node_with(SOCKET_IO, f"socket.io@{version}", "bufferutil@4.0.9", *redis)
    return Peer(
        SOCKET_IO,
        (node, str(_HERE / "servers" / "socket_io.js")),
        (node, str(_HERE / "dispatchers" / "socket_io.js")),
        {"NODE_PATH": str(modules)},
        dialect="socket.io",
        version=version,
    )


def _python_socketio() -> Peer:
    version = "5.18.1"
    python = python_with(PYTHON_SOCKETIO, f"python-socketio=={version}", _REDIS, *_UVICORN)
    dispatcher = (python, "-m", "bench.dispatchers.python_socketio")
    return Peer(
        PYTHON_SOCKETIO,
        (python, "-m", "bench.servers.python_socketio"),
        dispatcher,
        blocking=(*dispatcher, "blocking"),
        dialect="socket.io",
        version=version,
    )


def _channels() -> Peer:
    version = "4.3.2"
    redis = ("channels_redis==4.3.0", _REDIS)
    python = python_with(CHANNELS, f"channels=={version}", "django==5.2.19", *redis, *_UVICORN)
    return Peer(
        CHANNELS,
        (python, "-m", "bench.servers.channels_server"),
        (python, "-m", "bench.dispatchers.channels"),
        version=version,
        needs_redis=True,
    )


_FINDERS: Mapping[str, Callable[[], Peer]] = {
    NPM: _npm,
    REDIS_PY: _redis_py,
    UWS: _uws,
    CENTRIFUGO: _centrifugo,
    SOCKET_IO: _socket_io,
    PYTHON_SOCKETIO: _python_socketio,
    CHANNELS: _channels,
}

OTHERS = tuple(_FINDERS)
"""Names of the peers that can be left out."""
