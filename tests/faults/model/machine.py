"""Events of a cluster, as rules for hypothesis."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Literal

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from mesa_ws.messages.envelope import Retention

from .device import Device
from .masters import ALL
from .node import Node
from .store import Store
from .watch import IDS
from .world import TTL_MS, WINDOW_MS, Claim, Outcome, World

STEPS = 50
"""Steps of one example."""

LONG, SHORT = 10 * TTL_MS / 1000, TTL_MS / 1000
AMPLE = Retention(100, 100_000, LONG)
BRIEF = Retention(100, 100_000, SHORT)
KEEPS = (AMPLE, AMPLE, Retention(3, 100_000, LONG), Retention(100, 60, LONG), BRIEF)

NODES = st.integers(0, 1)
DEVICES = st.integers(0, 4)
COUNTS = st.sampled_from((1, 3, 1000))
CLAIMS: st.SearchStrategy[Claim] = st.sampled_from(
    ("own", "own", "own", "none", "stale", "foreign", "made up", "beyond")
)
OUTCOMES: st.SearchStrategy[Outcome] = st.sampled_from(("answered", "answered", "unanswered", "half"))
LOGINS = st.tuples(DEVICES, NODES)
Thaw = Literal["serve", "connect", "beat", "nothing"]
THAWS: tuple[Thaw, ...] = ("serve", "connect", "beat", "nothing")
HEARD: st.SearchStrategy[Sequence[int]] = st.sampled_from((ALL, (0,), (1, 2)))
RECIPIENTS = st.sampled_from((("ann",), ("ann",), ("bob",), IDS, IDS[::-1]))


def sound(step: Callable[..., None]) -> Callable[..., None]:
    """Stop after a step that found a fault, as no expected state remains."""

    @wraps(step)
    def run(self: "Faults", **choices: object) -> None:
        self.is_sound = False
        step(self, **choices)
        self.is_sound = True

    return run


class Faults(RuleBasedStateMachine):
    """A cluster under random events; `World` objects to broken promises.

    A subclass sets Redis and scripts, and whether an attach is one step and a process has one master. Rules
    choose by number from what exists, so that few of them have no effect; rules whose names name two events
    make combinations likely that are rare by chance.
    """

    stores: tuple[Store, Store]
    is_split = False
    is_scattered = False
    is_sound = False
    examples = 0

    @initialize(window=st.sampled_from((WINDOW_MS, 0)), logins=st.lists(LOGINS, max_size=5))
    def begin(self, window: int, logins: list[tuple[int, int]]) -> None:
        type(self).examples += 1
        for store in self.stores:
            store.empty()
        self.world = World(self.stores, window, is_split=self.is_split, is_scattered=self.is_scattered)
        for device, node in logins:
            self.world.connect(self.world.devices[device], self.world.nodes[node], "none")
        self.world.settle()
        self.is_sound = True

    def teardown(self) -> None:
        if self.is_sound:
            self.world.settle()

    def node(self, number: int) -> Node:
        return self.world.nodes[number]

    def connected(self, number: int) -> Device | None:
        """Return one of the connected devices."""
        devices = [each for each in self.world.devices if each.connection]
        return devices[number % len(devices)] if devices else None

    @rule(
        ids=RECIPIENTS,
        retention=st.sampled_from(KEEPS),
        size=st.sampled_from((0, 0, 20, 50)),
        outcome=OUTCOMES,
    )
    @sound
    def dispatch(self, ids: tuple[str, ...], retention: Retention, size: int, outcome: Outcome) -> None:
        self.world.dispatch(ids, retention, size, outcome)

    @rule(ids=RECIPIENTS, count=st.integers(1, 4))
    @sound
    def dispatch_some(self, ids: tuple[str, ...], count: int) -> None:
        for _ in range(count):
            self.world.dispatch(ids, AMPLE, 0, "answered")

    @rule(retention=st.sampled_from(KEEPS), is_repeated=st.booleans())
    @sound
    def announce(self, retention: Retention, is_repeated: bool) -> None:
        self.world.announce(retention, is_repeated=is_repeated)

    @rule(number=st.integers(0, 9), is_new=st.booleans())
    @sound
    def read_broadcasts(self, number: int, is_new: bool) -> None:
        self.world.read_broadcasts(number, is_new=is_new)

    @rule()
    @sound
    def retry(self) -> None:
        self.world.retry()

    @rule(
        number=DEVICES,
        node=NODES,
        claim=CLAIMS,
        hints=st.sampled_from((0, 0, 1, 3)),
        is_answered=st.booleans(),
    )
    @sound
    def connect_and_dispatch(
        self, number: int, node: int, claim: Claim, hints: int, is_answered: bool
    ) -> None:
        devices = [each for each in self.world.devices if not each.connection]
        if devices:
            device = devices[number % len(devices)]
            self.world.connect(device, self.node(node), claim)
            for _ in range(hints):
                self.world.dispatch((device.id,), AMPLE, 0, "answered")
            if is_answered:
                self.world.answer(self.node(node))

    @rule(number=DEVICES, seconds=st.sampled_from((1, 6)))
    @sound
    def come_back_in_time(self, number: int, seconds: int) -> None:
        if device := self.connected(number):
            self.dispatch_some(ids=(device.id,), count=4)
            self.world.settle()
            self.world.disconnect(device)
            self.world.pass_time(seconds, self.world.nodes)
            self.world.connect(device, self.node(0), "stale")
            self.world.answer(self.node(0))

    @rule(number=DEVICES, retention=st.sampled_from((AMPLE, BRIEF)))
    @sound
    def miss_messages(self, number: int, retention: Retention) -> None:
        if device := self.connected(number):
            self.world.settle()
            self.world.disconnect(device)
            for _ in range(2):
                self.world.dispatch((device.id,), retention, 0, "answered")
                self.world.pass_time(12, self.world.nodes)
            self.world.connect(device, self.node(0), "own")
            self.world.answer(self.node(0))

    @rule(number=st.sampled_from((1, 4)), node=NODES, is_forgotten=st.booleans())
    @sound
    def come_back_days_later(self, number: int, node: int, is_forgotten: bool) -> None:
        device = self.world.devices[number]
        self.world.disconnect(device)
        if is_forgotten:
            self.world.pass_time(11 * 24 * 3600, ())
        self.world.connect(device, self.node(node), "none")
        self.world.answer(self.node(node))
        self.world.work(device, 1000)
        self.world.disconnect(device)
        self.dispatch_some(ids=(device.id,), count=1)
        self.world.pass_time(30 * 3600, ())
        self.world.connect(device, self.node(node), "own")
        self.world.answer(self.node(node))

    @rule(number=DEVICES)
    @sound
    def disconnect(self, number: int) -> None:
        if device := self.connected(number):
            self.world.disconnect(device)

    @rule(number=DEVICES, count=COUNTS)
    @sound
    def work(self, number: int, count: int) -> None:
        if device := self.connected(number):
            self.world.work(device, count)

    @rule(number=DEVICES, count=COUNTS)
    @sound
    def prove(self, number: int, count: int) -> None:
        if device := self.connected(number):
            self.world.prove(device)
            self.world.work(device, count)

    @rule(node=NODES, is_flushed=st.booleans())
    @sound
    def acknowledge(self, node: int, is_flushed: bool) -> None:
        self.world.listen(self.node(node))
        self.world.acknowledge(self.node(node))
        if is_flushed:
            self.world.flush(self.node(node))

    @rule(node=NODES, count=COUNTS)
    @sound
    def deliver(self, node: int, count: int) -> None:
        self.world.deliver(self.node(node), count)

    @rule(node=NODES)
    @sound
    def read_on(self, node: int) -> None:
        self.world.answer(self.node(node))
        self.world.pull(self.node(node))

    @rule(node=NODES, count=COUNTS)
    @sound
    def flush(self, node: int, count: int) -> None:
        self.world.flush(self.node(node), count)

    @rule(node=NODES)
    @sound
    def serve(self, node: int) -> None:
        self.world.serve(self.node(node))

    @rule(node=NODES)
    @sound
    def beat(self, node: int) -> None:
        self.world.beat(self.node(node))
        self.world.repair(self.node(node))

    @rule()
    @sound
    def settle(self) -> None:
        self.world.settle()

    @rule()
    @sound
    def forget_what_all_have(self) -> None:
        self.world.forget_what_all_have()

    # Faults

    @rule(node=NODES, is_all=st.booleans())
    @sound
    def lose_hints(self, node: int, is_all: bool) -> None:
        if is_all:
            self.world.cut_subscription(self.node(node))
        else:
            self.world.lose_hint(self.node(node))

    @rule(node=NODES)
    @sound
    def kill(self, node: int) -> None:
        self.world.kill(self.node(node))

    @rule()
    @sound
    def clean_up(self) -> None:
        self.world.reap()
        self.world.depart()

    @rule(seconds=st.sampled_from((1, 6, 12, 45)), awake=st.sampled_from(((0, 1), (0,), (1,), ())))
    @sound
    def pass_time(self, seconds: int, awake: tuple[int, ...]) -> None:
        self.world.pass_time(seconds, [self.node(number) for number in awake])

    @rule(node=NODES, ids=RECIPIENTS, is_reaped=st.booleans(), then=st.sampled_from(THAWS))
    @sound
    def freeze_and_thaw(self, node: int, ids: tuple[str, ...], is_reaped: bool, then: Thaw) -> None:
        frozen, other = self.node(node), self.node(1 - node)
        self.world.pass_time(24, [other])
        self.world.dispatch(ids, AMPLE, 0, "answered")
        if is_reaped:
            self.world.reap()
        if then == "serve":
            self.world.serve(frozen)
        elif then == "connect":
            self.connect_and_dispatch(number=0, node=node, claim="own", hints=0, is_answered=True)
        elif then == "beat":
            self.world.beat(frozen)

    @rule(seconds=st.sampled_from((9, 24)), ids=RECIPIENTS, first=st.sampled_from((None, 0, 1)))
    @sound
    def silence_and_clean_up(self, seconds: int, ids: tuple[str, ...], first: int | None) -> None:
        self.world.pass_time(seconds, ())
        self.world.dispatch(ids, AMPLE, 0, "answered")
        if first is not None:
            self.world.beat(self.node(first))
        self.clean_up()

    @rule(is_full=st.booleans())
    @sound
    def fill(self, is_full: bool) -> None:
        self.world.set_full(is_full)

    @rule()
    @sound
    def snapshot(self) -> None:
        self.world.snapshot()

    @rule(back=st.integers(0, 2), loses_hints=st.booleans())
    @sound
    def go_back(self, back: int, loses_hints: bool) -> None:
        self.world.go_back(back, loses_hints=loses_hints)

    @rule(ids=RECIPIENTS, is_heard=st.booleans())
    @sound
    def write_and_go_back(self, ids: tuple[str, ...], is_heard: bool) -> None:
        self.world.snapshot()
        self.world.dispatch(ids, AMPLE, 0, "answered")
        if is_heard:
            self.world.serve(self.node(0))
            self.world.serve(self.node(1))
        self.world.go_back(0, loses_hints=True)
        self.world.dispatch(ids, AMPLE, 0, "answered")

    @rule(
        how=st.sampled_from(("restart", "promotion", "promotion", "first replica", "first replica")),
        ids=RECIPIENTS,
        is_calm=st.booleans(),
    )
    @sound
    def change_replication_id(self, how: str, ids: tuple[str, ...], is_calm: bool) -> None:
        if is_calm:
            self.world.dispatch(ids, AMPLE, 0, "answered")
            self.world.settle()
        if how == "restart":
            self.world.snapshot()
            self.world.go_back(0, loses_hints=True)
        elif how == "promotion":
            self.world.promote()
        else:
            self.world.change_replication_id()
        if is_calm:
            self.world.dispatch(ids, AMPLE, 0, "answered")

    @rule(
        is_calm=st.sampled_from((True, True, False)),
        number=DEVICES,
        late=st.sampled_from((0, 0, 1)),
        told=st.sampled_from(((ALL, ()), (ALL, (0,)), ((), ALL), ((0,), (1, 2), (0,)))),
        moved=st.sampled_from((None, 0, 1)),
    )
    @sound
    def fail_over(
        self, is_calm: bool, number: int, late: int, told: tuple[Sequence[int], ...], moved: int | None
    ) -> None:
        device = self.world.devices[number]
        if is_calm:
            self.world.connect(device, self.node(0), "own")
            self.world.settle()
        self.world.fail_over(late)
        if moved is not None:
            self.world.ask(self.node(moved), ALL)
        for turn, heard in enumerate(told):
            self.world.tell_dispatcher(heard, turn)
            self.world.dispatch((device.id,), AMPLE, 0, "answered", turn)
        for node in self.world.nodes:
            self.world.serve(node)

    @rule(process=st.integers(0, 2), heard=HEARD)
    @sound
    def hear_from_sentinels(self, process: int, heard: Sequence[int]) -> None:
        if process < 2:
            self.world.ask(self.node(process), heard)
        else:
            self.world.tell_dispatcher(heard, 0)

    @rule(is_demoted=st.booleans())
    @sound
    def end_old_master(self, is_demoted: bool) -> None:
        if is_demoted:
            self.world.demote()
        else:
            self.world.refuse()

    @rule(number=DEVICES)
    @sound
    def change_id(self, number: int) -> None:
        if device := self.connected(number):
            self.world.change_id(device)

    @rule(node=NODES, id=st.sampled_from(IDS), is_beyond=st.booleans())
    @sound
    def acknowledge_nonsense(self, node: int, id: str, is_beyond: bool) -> None:
        self.world.acknowledge_nonsense(self.node(node), id, is_beyond=is_beyond)

    @rule(id=st.sampled_from(IDS), how=st.sampled_from(("", "", "", "purge", "a day passes", "days pass")))
    @sound
    def forget(self, id: str, how: str) -> None:
        if how == "purge":
            self.world.purge(id)
        elif how:
            self.world.pass_time((11 * 24 if how == "days pass" else 30) * 3600, ())


def explore(machine: type[Faults], examples: int, random_seed: int) -> int:
    """Run a machine, in the same way for the same seed.

    Returns:
        The number of examples; also in `machine.examples`.

    Raises:
        AssertionError: the model objects to a step; the notes of the error list the steps.
    """
    machine.examples = 0
    chosen = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
        print_blob=False,
        report_multiple_bugs=False,
    )
    run_state_machine_as_test(seed(random_seed)(machine), settings=chosen)
    return machine.examples
