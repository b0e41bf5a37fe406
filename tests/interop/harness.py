"""The interop harness outside of the project: its location, the chosen cases, and how they run."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from .npm_packages import NPM, PROJECT, Unavailable, modules, node

HARNESS_TIMEOUT = 150.0

CHOSEN = (
    "hello is the first frame, a text frame, and announces the configuration",
    "authentication is acknowledged with op 22 and the user object",
    "authentication data may carry token and shouldSync",
    "refused authentication closes with 1008 and no acknowledgement",
    "PING is answered by PONG, exactly",
    "ECHO returns any JSON unchanged",
    "heartbeat answered: always an empty op 1, and the connection stays",
    "heartbeat unanswered: tries 1..max, then closed after max + 2 intervals",
    "an application message may have any opcode the protocol does not use, and no type",
    "heartbeats missed twice, then answered: the count starts again",
    "a burst is answered completely and in order",
    "op 5, 10, 22 and 1 from a client do nothing to anybody",
    "survives text that is not JSON",
    "survives null",
    "survives a number, a string, a list",
    "survives an unmasked frame",
    "@cryb/mesa Client: connects, authenticates and gets its user object",
    "@cryb/mesa Client: PING and ECHO",
    "@cryb/mesa Client: keeps its connection by answering heartbeats",
    "@cryb/mesa Client: is told of a refusal by 1008",
    "mesa-js-client: connects, authenticates and gets its user object",
    "mesa-js-client: PING and ECHO",
    "mesa-js-client: keeps its connection by answering heartbeats",
    "mesa-js-client: is told of a refusal by 1008",
)
"""Cases that concern the WebSocket wire alone, in the harness' order."""

LEFT_OUT: Mapping[str, tuple[str, ...]] = {
    "needs the npm Dispatcher, which speaks the 1.x Redis wire": (
        "@cryb/mesa Client: reconnects after the announced interval and works again",
        "mesa-js-client: reconnects after the announced interval and works again",
        "dispatch to ids reaches those and nobody else",
        'dispatch to "*" reaches every connection, authenticated or not',
        "dispatch to no recipients reaches every connection, authenticated or not",
        "dispatch excluding somebody",
        "dispatch without type, with options and with another opcode: t is absent, o never reaches a client",
        "dispatch in another namespace, or in none, does not arrive",
        "DispatchEvent DISCONNECT_CLIENT closes that client with 1000 and no other",
        "DISCONNECT_CLIENT closes every device of the id",
    ),
    "looks at the presence keys of the 1.x Redis wire": (
        "connected_clients holds the id from authentication to disconnection",
        "connected_clients_count counts connections, authenticated or not",
        "a refused id never appears online",
        "two devices of one id: both receive, and the id stays online while one is left",
    ),
    "needs message sync over the 1.x Redis wire": (
        "@cryb/mesa Client: receives missed messages with their sequence",
        "mesa-js-client: receives missed messages with their sequence",
        "messages for an offline id are redelivered at login, after op 22, with s = 1..n, then forgotten",
        "a dispatch with sync to somebody online arrives live, without s, and is not stored",
        "shouldSync false: nothing is redelivered and the list is dropped",
        "a list in the stored format, with options, is redelivered without them",
        "cluster: what a genuine server stored is redelivered by ours",
        "our send to an offline id stores the reference format, and a genuine server redelivers it",
        "twenty sends in a row to an offline id are all stored, in order",
    ),
    "needs portals over the 1.x Redis wire": (
        "a portal sees connection, message, authentication and disconnection",
        "the portal channel carries exactly the reference payloads",
        "two portals: every event goes to exactly one, in turn",
        "reportAllEvents sees what goes to another portal",
        "a portal that left gets nothing more",
        "authentication data and heartbeat answers never reach a portal",
        "the leave of a portal nobody knows does not remove a living one",
        "PY_PORTAL: shares the work with a genuine portal",
        "PY_PORTAL: announces itself, sees every event, leaves on SIGTERM",
    ),
    "needs an npm server in the same cluster, over the 1.x Redis wire": (
        "cluster: a global send of a genuine server reaches our clients",
        "cluster: a send to ids of a genuine server reaches our client only",
        "an id connected here and on a genuine server: a dispatch reaches both once",
        "cluster: our global send reaches clients of a genuine server",
        "cluster: our send to ids reaches one client here and one there",
        "our send publishes the reference payload on the ws channel",
        "PY_DISPATCH: ids, everybody, excluding, no type",
        "PY_DISPATCH: the published payloads are those of the reference",
        "PY_DISPATCH: DISCONNECT_CLIENT",
        "PY_DISPATCH: sync stores the reference format and a genuine server redelivers it",
        'PY_DISPATCH: "*" with sync is sent, not stored; empty and odd ids are not stored',
    ),
}
"""All other cases, by the reason why a server without the 1.x Redis wire does not run them."""

ALL = (*CHOSEN, *(name for names in LEFT_OUT.values() for name in names))
"""All cases, which run on the 1.x Redis wire."""

PY_DISPATCH = Path(__file__).with_name("dispatch.py")
PY_PORTAL = Path(__file__).with_name("portal.py")


class Run(NamedTuple):
    """The output of one run of the harness."""

    output: str
    exit_code: int

    def cases(self, *verdicts: str) -> list[str]:
        """Return the cases with one of these verdicts: `ok`, `not ok`, `skip`, or `left` if not chosen."""
        found = []
        for line in self.output.splitlines():
            for verdict in verdicts:
                name = line.removeprefix(f"{verdict} ")
                if name != line:
                    found.append(name)
        return found


def prepare() -> tuple[Path, Path]:
    """Return the folder of the harness, and the one with its packages.

    Raises:
        Unavailable: the harness, Node or the packages are missing.
    """
    given = os.environ.get("MESA_INTEROP_HARNESS")
    folder = Path(given) if given else PROJECT.parent / "shared" / "interop"
    if not (folder / "cases-public.js").is_file():
        raise Unavailable("there is no harness; MESA_INTEROP_HARNESS names its folder")
    return folder.resolve(), modules(folder / "package.json")


def run(cases: Iterable[str], url: str, redis: str, namespace: str) -> Run:
    """Run cases against the server at `url`, without changing the files of the harness."""
    folder, packages = prepare()
    environment = os.environ | {
        "NODE_PATH": str(packages),
        "SUT_URL": url,
        "SUT_REDIS": redis,
        "SUT_NAMESPACE": namespace,
        "PY_DISPATCH": shlex.join([sys.executable, str(PY_DISPATCH)]),
        "PY_PORTAL": shlex.join([sys.executable, str(PY_PORTAL)]),
    }
    done = subprocess.run(
        [node(), str(NPM / "run_cases.js"), str(folder), *cases],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=HARNESS_TIMEOUT,
        check=False,
    )
    return Run(done.stdout, done.returncode)
