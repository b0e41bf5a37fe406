"""Shared knowledge of the master in one process, for all its connections.

Sentinels leave an old master writable for seconds after they have named another one. If each connection
asked for itself, a process would write to both. So a process has one resolver for each address. It asks
all Sentinels at once, and when another master counts, it marks the old one as left: connections check
that before they are used, and event loops are notified at once.

Threads ask the Sentinels, for any event loop and any thread. Long-lived threads, which follow changes,
exist only while an event loop uses the address: a program that uses it only from threads may fork at any
time.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any
from weakref import WeakMethod, WeakSet, WeakValueDictionary, finalize

from redis.sentinel import MasterNotFoundError

from .connection import BlockingConnection, remaining
from .failures import FOREIGN
from .master import Master, MasterChoice, Report
from .sentinel import LIMIT, Sentinel, Sentinels, cut

APART = 1.0
"""Seconds between two questions to the Sentinels, unless one of them announces a change."""

PATIENCE = 0.25
"""Seconds to wait for further answers after the first one."""

PING = 10.0
"""Seconds of silence after which a subscription has to answer a PING."""

_log = logging.getLogger("mesa_ws.backend")


class MasterWatch:
    """A method to call in its event loop whenever a master is left; weakly referenced."""

    def __init__(self, resolver: "MasterResolver", on_left: Callable[[], None]) -> None:
        self._resolver = resolver
        self._loop = asyncio.get_running_loop()
        self._on_left = WeakMethod(on_left)

    def call(self) -> None:
        """Schedule the call. Thread-safe."""
        on_left = self._on_left()
        if on_left is not None:
            with suppress(RuntimeError):  # the event loop has been closed
                self._loop.call_soon_threadsafe(on_left)

    def close(self) -> None:
        """Stop calling the method."""
        self._resolver.unfollow(self)


class MasterResolver:
    """Resolver of the master of one address. Any thread and any event loop may use it."""

    def __init__(self, sentinels: Sentinels) -> None:
        self._choice = MasterChoice()
        self._sentinels = [Sentinel(host, port, sentinels) for host, port in sentinels.hosts]
        self._service = sentinels.service
        self._busy: set[Sentinel] = set()
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._asked_at = self._answered_at = self._doubted_at = self._heard_at = float("-inf")
        self._is_asked_soon = False
        self._problem = "the Sentinels do not answer"
        self._followings: WeakSet[MasterWatch] = WeakSet()
        self._holders: WeakSet[object] = WeakSet()
        self._followers: list[_Follower] = []
        finalize(self, _close, self._sentinels)

    @classmethod
    def of(cls, sentinels: Sentinels) -> "MasterResolver":
        """Return the resolver of this process; it exists as long as it is used."""
        with _registry.lock:
            resolver = _registry.resolvers.get(sentinels.name)
            if resolver is None:
                resolver = _registry.resolvers[sentinels.name] = cls(sentinels)
            return resolver

    def find(self, deadline: float) -> Master:
        """Return the master to connect to, before a deadline of the monotonic clock.

        Raises:
            MasterNotFoundError: no Sentinel names one.
        """
        if self._was_just_asked:
            self._doubted_at = time.monotonic()
        else:
            self._ask_if(lambda: self._was_just_asked, deadline)
        return self._known()

    async def afind(self, deadline: float) -> Master:
        """`find` for asyncio. Cancelling is safe."""
        if self._was_just_asked:
            self.doubt()  # a lost connection may be the first sign of a failover
        else:
            await self._in_thread(lambda: self._ask_if(lambda: self._was_just_asked, deadline))
        return self._known()

    def confirm(self, since: float, deadline: float) -> bool:
        """Return whether most Sentinels answered a question asked after `since`; ask them if not.

        If they name another master, the old one is marked as left when this returns.
        """
        for _ in range(2):  # the first answers may belong to an older question
            self._ask_if(lambda: self._heard_at >= since, deadline)
        return self._heard_at >= since

    async def aconfirm(self, since: float, deadline: float) -> bool:
        """`confirm` for asyncio. Cancelling is safe."""
        if self._heard_at < since:
            await self._in_thread(lambda: self.confirm(since, deadline))
        return self._heard_at >= since

    def refresh(self, deadline: float) -> None:
        """Ask again, unless the master is certain enough; for use from threads.

        Never raises: without an answer the last master counts.
        """
        if not self._is_certain:
            self._ask_if(lambda: self._is_certain, deadline)

    def doubt(self) -> None:
        """Ask soon, because a Redis does not behave like a master. Never waits."""
        self._doubted_at = time.monotonic()
        with self._lock:
            if self._is_asked_soon:
                return
            self._is_asked_soon = True
        with suppress(RuntimeError):  # the interpreter is shutting down and starts no threads
            threading.Thread(target=self._ask_in_time, name="mesa-sentinel", daemon=True).start()

    def follow(self, on_left: Callable[[], None]) -> MasterWatch:
        """Call a method in this event loop whenever a master is left."""
        following = MasterWatch(self, on_left)
        with self._lock:
            self._followings.add(following)
            if not self._followers:
                self._followers = [_Follower(self, sentinel) for sentinel in self._sentinels]
                with suppress(RuntimeError):  # the interpreter is shutting down and starts no threads
                    for follower in self._followers:
                        follower.start()
        return following

    def unfollow(self, following: MasterWatch) -> None:
        """Undo `follow`."""
        with self._lock:
            self._followings.discard(following)
            if self._followings:
                return
            followers, self._followers = self._followers, []
        for follower in followers:
            follower.stop()
        self._close_unused()

    def hold(self, holder: object) -> None:
        """Keep connections to the Sentinels for a holder that asks often from threads; weakly referenced."""
        self._holders.add(holder)

    def release(self, holder: object) -> None:
        """Undo `hold`."""
        self._holders.discard(holder)
        self._close_unused()

    def ask_now(self) -> None:
        """Ask now, because a Sentinel has announced a change."""
        wanted = time.monotonic()
        with self._turn:
            if self._asked_at < wanted:
                self._ask(LIMIT)

    def is_followed_by(self, follower: "_Follower") -> bool:
        """Whether the announcements that this follower hears are still of use."""
        return follower in self._followers and bool(self._followings)

    @property
    def _was_just_asked(self) -> bool:
        """Whether the Sentinels were asked a moment ago, and have answered."""
        return self._asked_at <= self._answered_at and time.monotonic() - self._asked_at < APART

    @property
    def _is_certain(self) -> bool:
        if self._was_just_asked:
            return True
        subscribed = sum(follower.is_subscribed for follower in self._followers)
        return 2 * subscribed > len(self._sentinels) and self._doubted_at < self._asked_at

    def _known(self) -> Master:
        master = self._choice.master
        if master is None:
            raise MasterNotFoundError(f"no Sentinel names a master {self._service!r}: {self._problem}")
        return master

    def _ask_in_time(self) -> None:
        time.sleep(max(0.0, self._asked_at + APART - time.monotonic()))
        self._is_asked_soon = False
        if self._followings or self._holders:
            self.refresh(time.monotonic() + LIMIT)

    def _ask_if(self, is_enough: Callable[[], bool], deadline: float) -> None:
        """Ask unless enough is known; one thread asks at a time, for all that wait."""
        wanted = time.monotonic()
        if is_enough() or not self._turn.acquire(timeout=remaining(deadline)):
            return
        try:
            if self._answered_at < wanted and not is_enough():
                self._ask(min(LIMIT, remaining(deadline)))
        finally:
            self._turn.release()

    async def _in_thread(self, ask: Callable[[], object]) -> None:
        """Ask in a thread. Cancelling is safe."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def run() -> None:
            ask()
            with suppress(RuntimeError):  # the event loop has been closed
                loop.call_soon_threadsafe(_finish, done)

        _start(run)
        await done

    def _ask(self, limit: float) -> None:
        """Ask all Sentinels at once, except those whose last answer is outstanding."""
        self._asked_at = now = time.monotonic()
        end = now + limit
        answers: SimpleQueue[Report | None] = SimpleQueue()
        asked = [sentinel for sentinel in self._sentinels if sentinel not in self._busy]
        for sentinel in asked:
            self._busy.add(sentinel)
            _start(partial(self._ask_one, sentinel, answers))
        reports = []
        with suppress(Empty):
            for _ in asked:
                report = answers.get(timeout=max(0.0, end - time.monotonic()))
                if report is not None:
                    reports.append(report)
                    end = min(end, time.monotonic() + PATIENCE)
        self._take(reports)
        if 2 * len(reports) > len(self._sentinels):
            self._heard_at = now
        self._answered_at = time.monotonic()

    def _ask_one(self, sentinel: Sentinel, answers: "SimpleQueue[Report | None]") -> None:
        report = None
        try:
            report = sentinel.ask()
            master = self._choice.master
            if (
                master is not None and report.epoch > master.epoch
            ):  # even if no question waits for this answer any more
                self._take([report])
        except FOREIGN as error:
            self._problem = str(error) or type(error).__name__
        finally:
            self._busy.discard(sentinel)
            answers.put(report)
            self._close_unused()

    def _close_unused(self) -> None:
        """Disconnect from the Sentinels if nothing uses them; one that is being asked follows afterwards."""
        if not self._followings and not self._holders:
            _close([sentinel for sentinel in self._sentinels if sentinel not in self._busy])

    def _take(self, reports: list[Report]) -> None:
        with self._lock:
            left = self._choice.take(reports, time.monotonic())
            if left is None:
                return
            left.is_left = True
            followings = list(self._followings)
        _log.warning("redis %r: the master is %r now, after %r", self._service, self._choice.master, left)
        for following in followings:
            following.call()


class _Follower(threading.Thread):
    """Thread that listens to one Sentinel while event loops use the address."""

    def __init__(self, resolver: MasterResolver, sentinel: Sentinel) -> None:
        super().__init__(name="mesa-sentinel", daemon=True)
        self._resolver = resolver
        self._sentinel = sentinel
        self._stopped = threading.Event()
        self._connection: BlockingConnection | None = None
        self.is_subscribed = False

    def run(self) -> None:
        while not self._stopped.is_set() and self._resolver.is_followed_by(self):
            try:
                self._listen()
            except FOREIGN as error:
                _log.debug("a Sentinel cannot be reached: %s", error)
            except Exception:  # noqa: BLE001  # without this thread, a failover would be noticed late
                _log.exception("listening to a Sentinel failed; retrying")
            finally:
                self.is_subscribed = False
            self._stopped.wait(APART)

    def stop(self) -> None:
        """Stop soon. Never waits."""
        self._stopped.set()
        connection = self._connection
        if connection is not None:
            cut(connection)

    def _listen(self) -> None:
        connection = self._connection = self._sentinel.subscribe()
        try:
            self._resolver.ask_now()  # changes before the subscription were not announced
            self.is_subscribed = True
            while not self._stopped.is_set() and self._resolver.is_followed_by(self):
                if not connection.can_read(PING):
                    connection.send_packed_command(connection.pack_commands([("PING",)]))
                if self._sentinel.is_about(connection.read_response()):
                    self._resolver.ask_now()
        finally:
            self._connection = None
            connection.disconnect()


class _Resolvers:
    """The resolvers of this process. A forked process, which has none of their threads, starts without."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.resolvers: WeakValueDictionary[Any, MasterResolver] = WeakValueDictionary()
        self.lock = threading.Lock()


_registry = _Resolvers()
os.register_at_fork(after_in_child=_registry.forget)


def _start(work: Callable[[], None]) -> None:
    """Run work in a new thread, or in this one if the interpreter is shutting down."""
    try:
        threading.Thread(target=work, name="mesa-sentinel", daemon=True).start()
    except RuntimeError:
        work()


def _finish(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _close(sentinels: list[Sentinel]) -> None:
    for sentinel in sentinels:
        sentinel.close()
