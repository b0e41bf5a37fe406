"""Cost of messages from clients to one portal."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from .child import Child
from .cost_table import cost_outcome
from .errors import Failed
from .figures import Outcome, Sample
from .options import Options
from .peer import NPM, OURS, Peer
from .redis_server import RunningRedis, redis_server
from .rig import Rig, rigged, take_turns

NAME = "portal"
OURS_1X = f"{OURS}, wire mesa1"
PORTAL = "portal"
REDIS = "redis"

_HERE = Path(__file__).parent / "portals"


class PortalRig(NamedTuple):
    """A server with clients, and a portal."""

    rig: Rig
    portal: Child

    def send(self, messages: int) -> int:
        """Make clients send, in turn and at full speed; return how many the portal handled."""
        self.portal.tell("count", messages=messages)
        self.rig.load.ask("send", messages=messages)
        handled: int = self.portal.answer()["handled"]
        self.portal.answer()
        return handled


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Make clients send as fast as the server reads, and wait until the portal has handled all."""
    messages = options.singles
    lost: dict[str, int] = {}
    with redis_server() as redis, _all_rigs(peers, options.connections, redis) as rigs:

        def round_of(name: str) -> Sample:
            portal_rig = rigs[name]

            def work() -> None:
                missing = messages - portal_rig.send(messages)
                if missing and name != NPM:
                    raise Failed(f"{name}: {missing} of {messages} messages were not handled")
                lost[name] = lost.get(name, 0) + missing

            processes = {PORTAL: portal_rig.portal, REDIS: redis}
            return portal_rig.rig.measure(messages, work, **processes)

        series = take_turns(rigs, options.rounds, "message", round_of)
    title = f"{messages} messages of 100 bytes from {options.connections} clients to one portal"
    outcome = cost_outcome(NAME, title, series, [], {"npm": NPM})
    outcome.notes += [f"{name}: {count} messages were lost" for name, count in lost.items() if count]
    outcome.notes += [
        f"CPU of the {role}, relative to {NPM}: {name} {times:.2f}"
        for role in (PORTAL, REDIS)
        for name in rigs
        if name != NPM and (times := series.ratio(name, NPM, role)) is not None
    ]
    return outcome


@contextmanager
def _all_rigs(peers: Sequence[Peer], connections: int, redis: RunningRedis) -> Iterator[dict[str, PortalRig]]:
    """Start servers with portals at one Redis, each in a namespace of its own."""
    with ExitStack() as running:
        rigs = {}
        for number, (name, peer, wire) in enumerate(_kinds(peers)):
            namespace = f"bench-{number}"
            portal = Child(f"{name} portal", (*_portal(peer), redis.url, namespace, wire), peer.environment)
            running.enter_context(portal).answer()
            rig = running.enter_context(rigged(peer, redis.url, "", namespace, wire))
            rig.connect(connections)
            rigs[name] = PortalRig(rig, portal)
        yield rigs


def _kinds(peers: Sequence[Peer]) -> Iterator[tuple[str, Peer, str]]:
    """Yield the name, the peer and the Redis wire of each kind."""
    for peer in peers:
        if peer.name == OURS:
            yield OURS, peer, "native"
            yield OURS_1X, peer, "mesa1"
        elif peer.name == NPM:
            yield NPM, peer, "mesa1"


def _portal(peer: Peer) -> tuple[str, ...]:
    if peer.name == NPM:
        return (peer.server[0], str(_HERE / "npm.js"))
    return (*peer.server[:2], "bench.portals.ours")
