"""What clients send, until one portal has handled it."""

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


class Passage(NamedTuple):
    """A server with clients, and its portal."""

    rig: Rig
    portal: Child

    def send(self, messages: int) -> int:
        """Have clients send, all at once and in turn; return how many messages the portal handled."""
        self.portal.tell("count", messages=messages)
        self.rig.load.ask("send", messages=messages)
        handled: int = self.portal.hear()["handled"]
        self.portal.hear()
        return handled


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Have clients send as fast as the server reads, and wait until the portal has handled all."""
    messages = options.singles
    lost: dict[str, int] = {}
    with redis_server() as redis, _all_passages(peers, options.connections, redis) as passages:

        def round_of(name: str) -> Sample:
            passage = passages[name]

            def work() -> None:
                missing = messages - passage.send(messages)
                if missing and name != NPM:
                    raise Failed(f"{name}: {missing} of {messages} messages were not handled")
                lost[name] = lost.get(name, 0) + missing

            processes = {PORTAL: passage.portal, REDIS: redis}
            return passage.rig.measure(messages, work, **processes)

        series = take_turns(passages, options.rounds, "message", round_of)
    title = f"{messages} messages of 100 bytes from {options.connections} clients to one portal"
    outcome = cost_outcome(NAME, title, series, [], {"npm": NPM})
    outcome.notes += [f"{name}: {count} messages were lost" for name, count in lost.items() if count]
    outcome.notes += [
        f"CPU of the {role} beside {NPM}: {name} {times:.2f}"
        for role in (PORTAL, REDIS)
        for name in passages
        if name != NPM and (times := series.ratio(name, NPM, role)) is not None
    ]
    return outcome


@contextmanager
def _all_passages(
    peers: Sequence[Peer], connections: int, redis: RunningRedis
) -> Iterator[dict[str, Passage]]:
    """Start servers with portals at one Redis, each in a namespace of its own."""
    with ExitStack() as running:
        passages = {}
        for number, (name, peer, wire) in enumerate(_kinds(peers)):
            namespace = f"bench-{number}"
            portal = Child(f"{name} portal", (*_portal(peer), redis.url, namespace, wire), peer.environment)
            running.enter_context(portal).hear()
            rig = running.enter_context(rigged(peer, redis.url, "", namespace, wire))
            rig.connect(connections)
            passages[name] = Passage(rig, portal)
        yield passages


def _kinds(peers: Sequence[Peer]) -> Iterator[tuple[str, Peer, str]]:
    """What to call each kind, who it is, and how it talks through Redis."""
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
