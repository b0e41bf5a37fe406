"""An asyncio dispatcher in many event loops: each loop has its own connections, and leaves none behind."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import redis
import uvloop

from mesa_ws.dispatcher import AsyncDispatcher
from mesa_ws.errors import BackendRefused, NotConnected
from mesa_ws.messages.message import Message
from tests.certificates import server_side
from tests.contract.cluster import LIMIT
from tests.http_peer import peer_that, served
from tests.redis_server import RedisServer

LOOPS = 100

Run = Callable[[Coroutine[Any, Any, object]], object]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine in an event loop of its own, like `asyncio.run`."""

    def run(work: Coroutine[Any, Any, object]) -> object:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(work)

    return run


def run_and_close(work: Coroutine[Any, Any, object]) -> None:
    """Close the loop right after the call, with whatever is left in it."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


def until(holds: Callable[[], bool]) -> None:
    """Wait until the peer has noticed the closed connections."""
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def open_at(server: RedisServer) -> int:
    """Count the connections of Redis, except for the one that queries."""
    with redis.Redis.from_url(server.url) as client:
        return len(client.client_list()) - 1


async def use(dispatcher: AsyncDispatcher) -> None:
    """Open all three connections that a dispatcher may have."""
    await dispatcher.dispatch(Message(0, "hello"), ["unknown"])
    with pytest.raises(BackendRefused):  # no replica exists
        await dispatcher.dispatch(Message(0, "hello"), ["unknown"], durability="replicated")
    with pytest.raises(NotConnected):
        await dispatcher.request("unknown", Message(0, "hello"))


def test_loops_that_ended_leave_no_connections_to_redis(
    own_redis: RedisServer, namespace: str, run: Run
) -> None:
    dispatcher = AsyncDispatcher(own_redis.url, namespace=namespace, sync=True)
    for n in range(LOOPS):
        run(dispatcher.dispatch(Message(0, n), ["unknown"]))
    until(lambda: open_at(own_redis) == 0)


@pytest.mark.parametrize("ending", [asyncio.run, run_and_close])
def test_the_next_call_closes_all_that_a_loop_left(
    own_redis: RedisServer, namespace: str, ending: Run
) -> None:
    async def dispatch() -> None:
        for _ in range(2):  # in a loop that stays open
            await dispatcher.dispatch(Message(0, "hello"), ["unknown"])
        await asyncio.to_thread(until, lambda: open_at(own_redis) == 1)

    dispatcher = AsyncDispatcher(own_redis.url, namespace=namespace, sync=True)
    for _ in range(5):
        ending(use(dispatcher))
    asyncio.run(dispatch())


@pytest.mark.parametrize("ending", [asyncio.run, run_and_close])
def test_a_dispatcher_that_is_collected_closes_what_loops_left(
    own_redis: RedisServer, namespace: str, ending: Run
) -> None:
    dispatcher = AsyncDispatcher(own_redis.url, namespace=namespace, sync=True)
    ending(use(dispatcher))
    del dispatcher
    gc.collect()
    until(lambda: open_at(own_redis) == 0)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_dispatcher_that_is_forgotten_in_its_loop_closes_its_connection(
    own_redis: RedisServer, namespace: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def forget() -> None:
        dispatcher = AsyncDispatcher(own_redis.url, namespace=namespace, sync=True)
        await dispatcher.dispatch(Message(0, "hello"), ["unknown"])
        del dispatcher
        async with asyncio.timeout(LIMIT):
            while await asyncio.to_thread(open_at, own_redis) > 0:
                gc.collect()

    run(forget())
    assert [
        record for record in caplog.records if record.name == "asyncio" and record.levelname == "ERROR"
    ] == []


def test_context_variables_of_the_first_caller_are_not_kept_as_long_as_the_connection(
    redis_url: str, namespace: str, run: Run
) -> None:
    class Session:
        """What an application keeps in a context variable for one of its requests."""

    session: ContextVar[Session] = ContextVar("session")

    async def dispatch_in_a_request(dispatcher: AsyncDispatcher) -> weakref.ref[Session]:
        session.set(Session())
        await dispatcher.dispatch(Message(0, "hello"), ["unknown"])
        return weakref.ref(session.get())

    async def serve() -> None:
        async with AsyncDispatcher(redis_url, namespace=namespace, sync=True) as dispatcher:
            kept = await asyncio.create_task(dispatch_in_a_request(dispatcher))
            async with asyncio.timeout(LIMIT):
                while kept() is not None:  # a cancelled timer keeps them until its time is over
                    gc.collect()
                    await asyncio.sleep(0.1)

    run(serve())


def test_a_call_that_was_given_up_and_left_in_a_closed_loop_raises_nothing(
    own_redis: RedisServer, namespace: str
) -> None:
    async def give_up() -> None:
        await dispatcher.dispatch(Message(0, "connected"), ["unknown"])
        own_redis.freeze()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(dispatcher.dispatch(Message(0, "late"), ["unknown"]), 0.05)

    dispatcher = AsyncDispatcher(own_redis.url, namespace=namespace, sync=True)
    run_and_close(give_up())
    own_redis.thaw()
    asyncio.run(dispatcher.aclose())
    until(lambda: open_at(own_redis) == 0)


def test_closing_in_one_loop_closes_what_others_left(own_redis: RedisServer, namespace: str) -> None:
    dispatcher = AsyncDispatcher(own_redis.url, namespace=namespace, sync=True)
    asyncio.run(use(dispatcher))
    asyncio.run(dispatcher.aclose())
    until(lambda: open_at(own_redis) == 0)


def test_loops_of_several_threads_keep_their_connections(own_redis: RedisServer, namespace: str) -> None:
    count, rounds = 4, 20
    dispatcher = AsyncDispatcher(own_redis.url, namespace=namespace, sync=True)
    together = threading.Barrier(count)

    async def dispatch() -> None:
        for n in range(rounds):
            await asyncio.to_thread(together.wait, LIMIT)
            await dispatcher.dispatch(Message(0, n), ["unknown"])
        await asyncio.to_thread(together.wait, LIMIT)

    with ThreadPoolExecutor(count) as threads:
        for done in [threads.submit(asyncio.run, dispatch()) for _ in range(count)]:
            done.result(LIMIT)
    with redis.Redis.from_url(own_redis.url) as client:
        received = client.info("stats")["total_connections_received"]
    assert received == count + 2  # this connection, and that of the server's start
    asyncio.run(dispatcher.aclose())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_loops_that_ended_leave_no_connections_to_a_server(
    scheme: str, run: Run, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with peer_that(served, server_side(certificate) if scheme == "https" else None) as peer:
        dispatcher = AsyncDispatcher(peer.url, key="k")
        for n in range(10):
            run(dispatcher.dispatch(Message(0, n), ["unknown"]))
        until(lambda: peer.talking == 0)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_next_call_closes_what_a_closed_loop_left_at_a_server(
    scheme: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with peer_that(served, server_side(certificate) if scheme == "https" else None) as peer:
        dispatcher = AsyncDispatcher(peer.url, key="k")
        for n in range(3):
            run_and_close(dispatcher.dispatch(Message(0, n), ["unknown"]))
        until(lambda: peer.talking == 1)
        del dispatcher
        gc.collect()
        until(lambda: peer.talking == 0)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_call_that_is_cancelled_at_any_moment_leaves_no_connection_to_a_server(
    scheme: str, run: Run, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    async def cancel_after(rounds: int) -> bool:
        async with AsyncDispatcher(peer.url, key="k") as dispatcher:
            calling = asyncio.create_task(dispatcher.dispatch(Message(0, "hello"), ["unknown"]))
            for _ in range(rounds):
                await asyncio.sleep(0.0005)
            calling.cancel()
            await asyncio.wait({calling})
            return calling.cancelled()

    with peer_that(served, server_side(certificate) if scheme == "https" else None) as peer:
        rounds = 0
        while run(cancel_after(rounds)):
            rounds += 1
        until(lambda: peer.talking == 0)
    assert rounds > 1
