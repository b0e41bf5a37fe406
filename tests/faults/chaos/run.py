"""One run: calm, storm, calm again, and the check of all messages."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import NamedTuple

from mesa_ws import AsyncDispatcher

from .checker import Verdict
from .journal import Journal, Record
from .nemesis import Nemesis, subscribers_killed
from .plan import Order, confirmation
from .program import Program
from .records import Received, Sent
from .site import DISPATCHERS, NAMESPACE, NODES, Site

START = 60.0
"""Seconds within which all clients have to log in for the first time."""

DRAIN = 30.0
"""Seconds after the storm within which everything has to arrive."""

WHISPERS = 5
"""Messages to everybody that are sent right after all nodes have lost their subscriptions."""


class Report(NamedTuple):
    """The report of a run.

    Attributes:
        heading: title.
        injected: number of faults by kind.
        verdicts: verdict by kind of client.
        complaints: reports of clients: lost messages, resets, ends.
        unknown: messages of unknown outcome.
        late: messages that arrived only after later ones were sent.
        drained: seconds from the end of the storm until everything had arrived.
        folder: folder of the logs.
    """

    heading: str
    injected: Counter[str]
    verdicts: dict[str, Verdict]
    complaints: list[Record]
    unknown: int
    late: list[str]
    drained: float
    folder: Path

    @property
    def is_clean(self) -> bool:
        """Whether all promises were kept, without exception."""
        return (
            not self.complaints
            and not self.late
            and all(verdict.is_clean for verdict in self.verdicts.values())
        )

    def __str__(self) -> str:
        faults = ", ".join(f"{n} x {kind}" for kind, n in sorted(self.injected.items()))
        lines = [
            self.heading,
            f"{self.injected.total()} faults: {faults}",
            *(f"{kind}: {verdict}" for kind, verdict in self.verdicts.items()),
            f"told to clients: {len(self.complaints)} losses, resets and ends",
            f"{self.unknown} messages of unknown outcome",
            f"{len(self.late)} messages stuck; all others were there {self.drained:.1f} s after the storm",
        ]
        if self.is_clean:
            return "\n".join([*lines, "verdict: everything that was confirmed was received"])
        return "\n".join([*lines, f"verdict: PROMISES BROKEN; logs in {self.folder}", *self._evidence()])

    def _evidence(self) -> list[str]:
        found = [f"told: {complaint}" for complaint in self.complaints[:10]]
        found += [f"late: {text}" for text in self.late[:10]]
        for verdict in self.verdicts.values():
            for name in ("lost", "reordered", "doubled", "strange"):
                found += [f"{name}: {text}" for text in getattr(verdict, name)[:10]]
        return found


async def run(folder: Path, release: str, seed: str, seconds: float) -> Report:
    """Inject faults for so many seconds, and judge. The logs are in `folder`."""
    async with Site.standing(folder, release, seed) as site, AsyncExitStack() as stack:
        received = await _gather_clients(site, stack)
        for program in site.dispatchers:
            await stack.enter_async_context(program.running())
        nemesis = Nemesis(site, Random(seed))
        await nemesis.rage(seconds)
        site.heal()
        began = time.monotonic()
        for program in site.dispatchers:
            await program.finish(DRAIN)
        sent = Sent(site.dispatchers)
        await _whisper(site, sent)
        late = await _drain(received, sent)
        drained = time.monotonic() - began
        await _send(site, sent, "last", 0)
        await _drain(received, sent)
        verdicts = {_kind(each): each.verdict(sent.expected(each.process)) for each in received}
        complaints = [complaint for each in received for complaint in each.complaints]
        heading = _heading(site, release, seed, seconds)
        return Report(heading, nemesis.injected, verdicts, complaints, sent.unknown, late, drained, folder)


def _heading(site: Site, release: str, seed: str, seconds: float) -> str:
    absent = f" (no npm clients: {site.without_npm})" if site.without_npm else ""
    return (
        f"chaos on {release}: seed {seed}, {seconds:g} s, {NODES} nodes, {len(DISPATCHERS)} dispatchers, "
        f"{len(site.ids)} clients{absent}"
    )


def _kind(received: Received) -> str:
    process = received.process
    return f"{len(process.ids)} clients on {'wire 2' if process.is_wire2 else 'npm packages'}"


async def _gather_clients(site: Site, stack: AsyncExitStack) -> list[Received]:
    """Start every node, and then log in every client."""
    logs = [Journal(node.log) for node in site.nodes]
    up: set[int] = set()

    def all_up() -> bool:
        up.update(number for number, log in enumerate(logs) for _ in log.news())
        return len(up) == len(logs)

    assert await until(all_up, START), _last_words(site.nodes)
    received = []
    for process in site.client_processes:
        await stack.enter_async_context(process.program.running())
        received.append(Received(process))

    def all_ready() -> bool:
        for each in received:
            each.read()
        return all(len(each.ready) == len(each.process.ids) for each in received)

    assert await until(all_ready, START), _last_words([process.program for process in site.client_processes])
    return received


async def _drain(received: list[Received], sent: Sent) -> list[str]:
    """Wait until everything has arrived; return what is missing at the limit."""
    expected = [sent.expected(each.process) for each in received]
    missing: list[str] = []

    def is_drained() -> bool:
        missing.clear()
        for each, wanted in zip(received, expected, strict=True):
            each.read()
            missing.extend(each.missing(wanted))
        return not missing

    await until(is_drained, DRAIN)
    return missing


async def _whisper(site: Site, sent: Sent) -> None:
    """Send while no node is subscribed, then pause: no later message reveals a missing one."""
    for number in range(WHISPERS):
        await subscribers_killed(site, Random(number))
        await _send(site, sent, "whisper", number)


async def _send(site: Site, sent: Sent, source: str, number: int) -> None:
    """Send last messages to ids and to everybody, after which no repetition may arrive either."""
    async with AsyncDispatcher(site.redis.url, namespace=NAMESPACE, sync=True) as dispatcher:
        for order in (Order(source, number, site.ids, 0), Order(f"{source}/*", number, (), 0)):
            sent.take(["meant", order.source, order.number, order.recipients])
            receipt = await dispatcher.dispatch(order.message, order.to, idempotency_key=order.key)
            sent.take(confirmation(order, receipt))


async def until(holds: Callable[[], bool], limit: float) -> bool:
    """Wait until a condition holds; return whether it does."""
    end = time.monotonic() + limit
    while not holds():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.1)
    return True


def _last_words(programs: list[Program]) -> str:
    return "\n".join(f"{program.name}: {program.errors.read_text()[-1500:]}" for program in programs)
