"""Where a duel takes place: a Redis, servers and a dispatcher of one side, and people."""

import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from functools import cached_property
from itertools import chain
from random import Random

import redis

from tests.faults.chaos.checker import Expected, Verdict, check
from tests.faults.chaos.proxy import Proxy
from tests.redis_server import RedisServer

from .person import LIMIT, Loop, Person
from .programs import DispatcherProcess, Sending, ServerProcess

PATIENCE = 1.0
"""Seconds after which 1.x has lost what did not come."""


class Stage:
    """One side, in a namespace of its own.

    Args:
        side: whose servers and dispatchers: `npm`, or ours on the wire `native` or `mesa1`.
        make_person: makes people from ids.
        loop: where ways to Redis are.
        stack: what is to be ended at the end.
    """

    def __init__(
        self,
        side: str,
        make_person: Callable[[str], Person],
        server: RedisServer,
        namespace: str,
        loop: Loop,
        stack: ExitStack,
    ) -> None:
        self.side = side
        self._make_person = make_person
        self._redis = server
        self._namespace = namespace
        self._loop = loop
        self._stack = stack
        self._people = 0
        self._served = ""
        self.a, self.b = self.server(), self.server()
        self._dispatcher = self.dispatcher()

    def server(self, delay: float = 0, redelivery: float = 0) -> ServerProcess:
        """Start a server; `delay` is the way to its Redis in seconds."""
        made = ServerProcess(self.side, self._way(delay), self._namespace, redelivery)
        return self._stack.enter_context(made)

    def dispatcher(self, delay: float = 0) -> DispatcherProcess:
        """Start a dispatcher of its own; `delay` is the way to its Redis in seconds."""
        return self._stack.enter_context(DispatcherProcess(self.side, self._way(delay), self._namespace))

    @cached_property
    def slow_dispatcher(self) -> DispatcherProcess:
        """A dispatcher that is far from its Redis."""
        return self.dispatcher(delay=0.05)

    def person(self) -> Person:
        """Somebody new."""
        self._people += 1
        return self._make_person(f"person-{self._people}")

    def another_device_of(self, person: Person) -> Person:
        """The same id, elsewhere."""
        return self._make_person(person.id)

    def dispatch(self, numbers: Sequence[int], to: Person) -> None:
        """Dispatch numbers in a row, without waiting in between."""
        self._served = to.id
        self._dispatcher.dispatch([(number, [to.id]) for number in numbers])

    def store(self, numbers: Sequence[int], to: Person) -> None:
        """Have numbers waiting for who is away; for 1.x written as its server would, had it no races."""
        if self.side != "npm":
            self.dispatch(numbers, to)
            return
        stored = ",".join(f'{{"op":0,"d":{number},"t":"NUMBER"}}' for number in numbers)
        with redis.Redis.from_url(self._redis.url) as client:
            client.hset(self._lists, to.id, f"[{stored}]")

    def send(self, server: ServerProcess, sendings: Sequence[Sending]) -> None:
        """Have a server send numbers, one right after the other."""
        sender = self.person()
        sender.arrive(server.url)
        sender.send(sendings)
        server.until("sent")
        sender.leave()

    def settle(self) -> None:
        """Wait until what was dispatched is known to be received; 1.x never knows.

        On its wire it is so when nothing is kept for who was dispatched to last.
        """
        self._dispatcher.dispatch([])
        end = time.monotonic() + LIMIT
        with redis.Redis.from_url(self._redis.url) as client:
            while self.side == "mesa1" and client.hexists(self._lists, self._served):
                assert time.monotonic() < end
                time.sleep(0.01)

    def judge(self, person: Person, numbers: Sequence[int]) -> Verdict:
        """Wait for what a device should have got by now, and compare."""
        expected = Expected({("number", number): None for number in numbers}, set())
        end = time.monotonic() + (PATIENCE if self.side == "npm" else LIMIT)
        while not set(numbers) <= set(chain.from_iterable(person.logins)) and time.monotonic() < end:
            time.sleep(0.01)
        return check(person.id, expected, [[("number", n) for n in login] for login in person.logins])

    @property
    def _lists(self) -> str:
        return f"undelivered_messages_{self._namespace}"

    def _way(self, delay: float) -> str:
        if not delay:
            return self._redis.url
        way = Proxy(Random(0), self._redis.port)
        way.delay = delay
        ways = AsyncExitStack()
        self._loop.run(ways.enter_async_context(way.listening()))
        self._stack.callback(lambda: self._loop.run(ways.aclose()))
        return f"redis://127.0.0.1:{way.port}"
