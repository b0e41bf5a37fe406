"""One side of the comparison: a Redis, servers, a dispatcher, and devices of clients."""

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

from .device import LIMIT, Device, Loop
from .programs import DispatcherProcess, Sending, ServerProcess

PATIENCE = 1.0
"""Seconds after which a message that 1.x has not delivered counts as lost."""


class Site:
    """One side, in a namespace of its own.

    Args:
        side: whose servers and dispatchers: `npm`, or ours on the wire `native` or `mesa1`.
        make_device: makes a device from an id.
        loop: runs the proxies to Redis.
        stack: ends everything.
    """

    def __init__(
        self,
        side: str,
        make_device: Callable[[str], Device],
        server: RedisServer,
        namespace: str,
        loop: Loop,
        stack: ExitStack,
    ) -> None:
        self.side = side
        self._make_device = make_device
        self._redis = server
        self._namespace = namespace
        self._loop = loop
        self._stack = stack
        self._ids = 0
        self._last_id = ""
        self.a, self.b = self.server(), self.server()
        self._dispatcher = self.dispatcher()

    def server(self, delay: float = 0, redelivery: float = 0) -> ServerProcess:
        """Start a server; `delay` is the latency of its Redis in seconds."""
        made = ServerProcess(self.side, self._way(delay), self._namespace, redelivery)
        return self._stack.enter_context(made)

    def dispatcher(self, delay: float = 0) -> DispatcherProcess:
        """Start a dispatcher of its own; `delay` is the latency of its Redis in seconds."""
        return self._stack.enter_context(DispatcherProcess(self.side, self._way(delay), self._namespace))

    @cached_property
    def slow_dispatcher(self) -> DispatcherProcess:
        """A dispatcher that is far from its Redis."""
        return self.dispatcher(delay=0.05)

    def device(self) -> Device:
        """Return a device of a new id."""
        self._ids += 1
        return self._make_device(f"person-{self._ids}")

    def another_device_of(self, device: Device) -> Device:
        """Return another device of the same id."""
        return self._make_device(device.id)

    def dispatch(self, numbers: Sequence[int], to: Device) -> None:
        """Dispatch numbers in a row, without waiting in between."""
        self._last_id = to.id
        self._dispatcher.dispatch([(number, [to.id]) for number in numbers])

    def store(self, numbers: Sequence[int], to: Device) -> None:
        """Store numbers for an absent device; for 1.x, as its server would write them without races."""
        if self.side != "npm":
            self.dispatch(numbers, to)
            return
        stored = ",".join(f'{{"op":0,"d":{number},"t":"NUMBER"}}' for number in numbers)
        with redis.Redis.from_url(self._redis.url) as client:
            client.hset(self._lists, to.id, f"[{stored}]")

    def send(self, server: ServerProcess, sendings: Sequence[Sending]) -> None:
        """Make a server send numbers in a row."""
        sender = self.device()
        sender.arrive(server.url)
        sender.send(sendings)
        server.until("sent")
        sender.leave()

    def settle(self) -> None:
        """Wait until the dispatched messages are acknowledged; 1.x cannot tell.

        On the wire of 1.x, that is when nothing is stored for the last recipient any more.
        """
        self._dispatcher.dispatch([])
        end = time.monotonic() + LIMIT
        with redis.Redis.from_url(self._redis.url) as client:
            while self.side == "mesa1" and client.hexists(self._lists, self._last_id):
                assert time.monotonic() < end
                time.sleep(0.01)

    def judge(self, device: Device, numbers: Sequence[int]) -> Verdict:
        """Wait until a device has received `numbers`, and compare."""
        expected = Expected({("number", number): None for number in numbers}, set())
        end = time.monotonic() + (PATIENCE if self.side == "npm" else LIMIT)
        while not set(numbers) <= set(chain.from_iterable(device.logins)) and time.monotonic() < end:
            time.sleep(0.01)
        return check(device.id, expected, [[("number", n) for n in login] for login in device.logins])

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
