"""Peers of a benchmark: our server, a bare loop over the same library, and the npm package."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

OURS = "mesa-ws"
BARE = "picows"
NPM = "@cryb/mesa"


@dataclass(frozen=True)
class Peer:
    """A server and, where Redis is used, a dispatcher, as programs.

    Attributes:
        name: for tables.
        server: command of the server; the URL of a Redis may follow.
        dispatcher: command of the dispatcher; the URL of a Redis follows.
        environment: variables that both need.
    """

    name: str
    server: tuple[str, ...]
    dispatcher: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def python_peers() -> list[Peer]:
    """Return the bare loop, which the others are compared with, and our server."""
    python = (sys.executable, "-m")
    return [
        Peer(BARE, (*python, "bench.servers.bare"), (*python, "bench.dispatchers.bare")),
        Peer(OURS, (*python, "bench.servers.ours"), (*python, "bench.dispatchers.ours")),
    ]


def npm_peer(node: str, modules: Path) -> Peer:
    """Return the npm package on Node, with garbage collection on request before memory is read."""
    command, here = (node, "--expose-gc"), Path(__file__).parent
    return Peer(
        NPM,
        (*command, str(here / "servers" / "npm.js")),
        (*command, str(here / "dispatchers" / "npm.js")),
        {"NODE_PATH": str(modules)},
    )
