"""Rounds: connections of ids are ordered to end around a fault, and messages are dispatched afterwards."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

from mesa_ws import DispatchEvent
from mesa_ws.messages.order import OrderReceipt
from mesa_ws.messages.receipt import Receipt

from .clients import LIMIT, REFUSED, Label, Listener, Login
from .faults import Fault
from .site import EVERYBODY, Node, Site, insist, ordered, staying

OUT = 4100
"""Close code of disconnections."""

CODES = {"disconnect": OUT, "event": 1000, "event to everybody": 1000, "revoke": REFUSED}
"""Close code of each kind of order."""

BEGAN = int(time.time()) - 86_400
"""Logins of the first round were issued then, and those of each further round some seconds later."""

STEP = 10.0

PACE = 0.3
"""Least seconds between two messages of a round to each recipient."""

FAULTS = ("stayed", "late", "wrong code", "let in", "cut", "lost", "doubled", "reordered", "not done")
"""`stayed`: connections that an order did not end. `late`: messages that were dispatched after the receipt,
and reached one. `let in`: revoked logins that were accepted. `cut`: connections that ended without an order.
Then what clients that stay missed, or got twice or out of order. `not done`: orders that `status` did not
report as done."""


class Tally:
    """What was found in all rounds.

    Attributes:
        rounds: number of orders.
        pending: of these, rounds whose node had not carried it out when the receipt was made.
        ended: connections that had to end.
        staying: connections that had to stay, and to receive what was confirmed.
        confirmed: stored messages that they had to receive.
        found: examples of each fault.
    """

    def __init__(self) -> None:
        self.rounds = self.pending = self.ended = self.staying = self.confirmed = 0
        self.found: dict[str, list[str]] = {fault: [] for fault in FAULTS}

    def judge(self, where: str, listener: Listener, expected: Sequence[Label]) -> None:
        """Judge a client that had to stay."""
        who = f"{where}, {listener.login}"
        self.staying += 1
        self.confirmed += len(expected)
        stored = Counter(label for label in listener.got if label.is_stored)
        if listener.code is not None:
            self.found["cut"].append(f"{who}: {listener.code}")
        self.found["lost"] += [f"{who}: {label}" for label in expected if label not in stored]
        self.found["doubled"] += [f"{who}: {label}" for label, count in stored.items() if count > 1]
        newest: dict[tuple[str, int], int] = {}
        for label in stored:  # in the order in which each came first
            if label.number < newest.get(label[:2], 0):
                self.found["reordered"].append(f"{who}: {label}")
            newest[label[:2]] = label.number


class Round:
    """One order, which concerns the clients of one node around a fault.

    Args:
        site: all parts.
        node: the node.
        kind: of the order; one of `CODES`.
        name: what the evidence calls it.
        issued: time of the revocation, if it is one.
    """

    def __init__(self, site: Site, node: Node, kind: str, name: str, issued: float) -> None:
        self._site = site
        self._node = node
        self._kind = kind
        self._name = name
        self._issued = issued
        self._old: list[Listener] = []
        self._staying: list[Listener] = []

    async def prepare(self, dice: Random) -> None:
        """Log the clients in, and wait until a message reaches them."""
        for id in self._node.ordered:
            for wire in (1, 2):
                login = Login(id, self._issued - dice.choice((0, 1, 3)), wire)
                self._old.append(await self._site.join(self._node, login))
        if self._kind == "revoke":
            self._staying += await self._newer(self._node)
        await self._site.say(self._node, ordered(self._node), stored=True)
        hello = self._site.sent[-1]
        assert await holds_in_time(lambda: all(hello in each.got for each in self._old)), self._name

    async def run(self, fault: "asyncio.Task[None]", delay: float, pace: float, tally: Tally) -> None:
        """Give the order after a delay, and see what follows it."""
        await asyncio.sleep(delay)
        receipt = await insist(self._order)
        mark = self._site.number
        async with asyncio.TaskGroup() as tasks:
            logins = [tasks.create_task(self._log_in(node, tally)) for node in (self._node, self._site.home)]
            while not (fault.done() and all(login.done() for login in logins)):
                await self._talk()
                await asyncio.wait([fault, *logins], timeout=pace)
        await holds_in_time(lambda: all(each.code is not None for each in self._old))
        if isinstance(receipt, OrderReceipt):
            tally.pending += self._node.node_id in receipt.pending
            await self._look_at_status(receipt, tally)
        await self._talk()
        await self._log_in(self._node, tally)
        await self._judge(mark, tally)

    async def _order(self) -> OrderReceipt | Receipt:
        dispatcher, ids = self._site.dispatcher, self._node.ordered
        match self._kind:
            case "disconnect":
                return await dispatcher.disconnect(ids, OUT, "out", idempotency_key=self._name)
            case "revoke":
                return await dispatcher.revoke(ids, self._issued, idempotency_key=self._name)
            case "event":
                others: Sequence[str] = ()
            case _:
                ids, others = (EVERYBODY,), tuple(self._site.ids - {*ids})
        event = DispatchEvent("DISCONNECT_CLIENT")
        return await dispatcher.dispatch(event, ids, others, idempotency_key=self._name)

    async def _talk(self) -> None:
        for key in (ordered(self._node), EVERYBODY):
            await self._site.say(self._node, key, stored=False)
        for key in (ordered(self._node), EVERYBODY, staying(self._node)):
            await self._site.say(self._node, key, stored=True)

    async def _newer(self, node: Node) -> list[Listener]:
        """Log in with newer logins, which stay: with a client of each wire."""
        first, second = self._node.ordered
        issued = self._issued + STEP / 2
        return [
            await self._site.join(node, Login(first, issued, 2), ours=True),
            await self._site.join(node, Login(second, issued, 1)),
        ]

    async def _log_in(self, node: Node, tally: Tally) -> None:
        """Log in after the order: only who was revoked is refused."""
        if self._kind == "revoke":
            for wire in (1, 2):
                late = await self._site.join(node, Login(self._node.ordered[0], self._issued, wire))
                if late.code is None:
                    tally.found["let in"].append(f"{self._name}, {late.login} at node {node.number}")
                await late.leave()
        self._staying += await self._newer(node)

    async def _look_at_status(self, receipt: OrderReceipt, tally: Tally) -> None:
        nodes = sorted(each.node_id for each in (self._site.home, *self._site.nodes))

        async def is_done() -> bool:
            progress = await insist(lambda: self._site.dispatcher.status(receipt))
            return sorted(progress.done) == nodes and not progress.pending

        end = time.monotonic() + LIMIT
        while not await is_done():
            if time.monotonic() > end:
                progress = await self._site.dispatcher.status(receipt)
                tally.found["not done"].append(f"{self._name}: {receipt}, {progress}")
                return
            await asyncio.sleep(0.2)

    async def _judge(self, mark: int, tally: Tally) -> None:
        tally.rounds += 1
        tally.ended += len(self._old)
        for each in self._old:
            who = f"{self._name}, {each.login}"
            if each.code is None:
                tally.found["stayed"].append(who)
            elif each.code != CODES[self._kind]:
                tally.found["wrong code"].append(f"{who}: {each.code}")
            tally.found["late"] += [
                f"{who}: {label} after {mark}" for label in each.got if label.number > mark
            ]
        await judge(self._site, self._node, self._staying, ordered(self._node), self._name, tally)
        for each in (*self._old, *self._staying):
            await each.leave()


async def batch(site: Site, fault: Fault, seconds: float, number: int, dice: Random, tally: Tally) -> None:
    """Let a fault happen, and give an order to the clients of each node around it.

    A failover may lose events, as all that no replica has; it loses no disconnections and no revocations.
    """
    kinds = sorted(CODES) if site.redises is None else ("disconnect", "revoke")
    rounds = []
    for node in site.nodes:
        kind = dice.choice(kinds)
        name = f"{fault.__name__} {number} of {seconds:g} s, node {node.number}, {kind}"
        rounds.append(Round(site, node, kind, name, BEGAN + number * STEP))
    await asyncio.gather(*(each.prepare(dice) for each in rounds))
    lead = seconds / 10
    async with asyncio.TaskGroup() as tasks:
        over = tasks.create_task(_after(lead, fault, site, seconds, dice))
        for each in rounds:
            delay = lead + _moment(seconds, dice)
            tasks.create_task(each.run(over, delay, max(PACE, seconds / 6), tally))


async def judge(
    site: Site, node: Node, listeners: Sequence[Listener], key: str, where: str, tally: Tally
) -> None:
    """Judge clients of a node that stay, as soon as they have what was confirmed to a group and to all."""
    sent = [label for label in site.sent if label.key in (key, EVERYBODY)]
    expected = [[label for label in sent if label.number > each.since] for each in listeners]
    await holds_in_time(
        lambda: all(
            each.code is not None or {*some} <= {*each.got}
            for each, some in zip(listeners, expected, strict=True)
        )
    )
    for each, some in zip(listeners, expected, strict=True):
        tally.judge(where, each, some)
        await asyncio.sleep(0)  # for Pongs of the others


async def holds_in_time(holds: Callable[[], bool]) -> bool:
    """Wait until a condition holds, and return whether it does."""
    end = time.monotonic() + LIMIT
    while not holds():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.05)
    return True


def _moment(seconds: float, dice: Random) -> float:
    """Return when an order is given: before a fault, within it, or about when it ends."""
    short = seconds / 10
    ranges = ((-short, 0.0), (0.0, seconds), (seconds - short, seconds + short))
    return dice.uniform(*dice.choice(ranges))


async def _after(lead: float, fault: Fault, site: Site, seconds: float, dice: Random) -> None:
    await asyncio.sleep(lead)
    await fault(site, seconds, dice)
