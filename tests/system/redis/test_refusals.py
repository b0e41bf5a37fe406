"""What Redis refuses when a part may have been done: nothing is doubled, nothing is lost, and it is said."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import redis
from redis.exceptions import ResponseError

from mesa_ws import (
    AsyncDispatcher,
    BackendRefused,
    BackendUnavailable,
    Dispatcher,
    Message,
    Receipt,
    RedisBackend,
    Sync,
)
from mesa_ws.backend.inbox import Capacity, EventKind, InboxEvent, Step
from mesa_ws.backend.mesa1 import Mesa1Backend
from mesa_ws.backend.mesa1.keys import Mesa1Keys as Keys1x
from mesa_ws.backend.redis.inbox_writer import AppendCommand
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.backend.redis.portal_consumer import PortalCommands
from mesa_ws.backend.redis.wire import NativeHandshake
from mesa_ws.backend.redis_client.address import Address
from mesa_ws.backend.redis_client.batch import Operation
from mesa_ws.backend.redis_client.command import Command
from mesa_ws.backend.redis_client.durability import Proof
from mesa_ws.backend.redis_client.pipeline import Pipeline
from mesa_ws.backend.redis_client.pool import Pool
from mesa_ws.http_server.server import DispatchApi
from mesa_ws.settings import Wire
from mesa_ws.transports.run import serve
from tests.contract.cluster import LIMIT
from tests.redis_server import RedisServer
from tests.system.redis.script_runner import ScriptRunner
from tests.system.server.conftest import Joining, Serving, accepting, join, serving, stack

__all__ = ["join", "serving", "stack"]

STORED = Sync(enabled=True)
KEY = "0123456789abcdef"
LEASE = 0.6
WIRES: tuple[Wire, ...] = ("native", "mesa1")


@pytest.fixture
def admin(own_redis: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(own_redis.url) as client:
        client.execute_command("ACL", "SETUSER", "mesa", "on", ">secret", "~*", "&*", "+@all")
        yield client


@pytest.fixture
def url(own_redis: RedisServer, admin: redis.Redis) -> str:
    """The address of a Redis whose user has all rights, so far."""
    return f"redis://mesa:secret@127.0.0.1:{own_redis.port}"


def allow(admin: redis.Redis, *rules: str) -> None:
    admin.execute_command("ACL", "SETUSER", "mesa", *rules)  # type: ignore[no-untyped-call]


def backend(wire: Wire, url: str, namespace: str) -> RedisBackend | Mesa1Backend:
    kind = RedisBackend if wire == "native" else Mesa1Backend
    return kind(url, namespace=namespace, lease=LEASE)


async def test_what_is_stored_and_cannot_be_published_arrives_once(
    own_redis: RedisServer,
    admin: redis.Redis,
    url: str,
    namespace: str,
    serving: Serving,
    join: Joining,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = accepting(backend=backend("native", own_redis.url, namespace), namespace=namespace)
    peer = await join(await serving(server), "1")
    async with AsyncDispatcher(url, namespace=namespace, sync=STORED) as dispatcher:
        await dispatcher.dispatch(Message(0, "first"), ["1"])
        allow(admin, "resetchannels")
        receipts = [await dispatcher.dispatch(Message(0, n), ["1"]) for n in range(3)]
        assert all(each.deliveries["1"].stored for each in receipts)
        assert [each["d"] for each in await peer.messages(4)] == ["first", 0, 1, 2]
        allow(admin, "&*")
        await dispatcher.dispatch(Message(0, "last"), ["1"])
        assert [each["d"] for each in await peer.messages(1)] == ["last"]
    warnings = [each for each in caplog.records if "refuses to publish" in each.message]
    assert len(warnings) == 1
    assert f"mesa:{{{namespace}.0}}:r:*" in warnings[0].message


async def test_what_is_stored_for_everybody_and_cannot_be_published_arrives_once(
    own_redis: RedisServer, admin: redis.Redis, url: str, namespace: str, serving: Serving, join: Joining
) -> None:
    server = accepting(backend=backend("native", own_redis.url, namespace), namespace=namespace)
    peer = await join(await serving(server), "1")
    async with AsyncDispatcher(url, namespace=namespace, sync=STORED) as dispatcher:
        await dispatcher.dispatch(Message(0, "first"))
        allow(admin, "resetchannels")
        receipt = await dispatcher.dispatch(Message(0, "second"))
        assert receipt.nodes == 1
        assert [each["d"] for each in await peer.messages(2)] == ["first", "second"]


@pytest.mark.parametrize("recipients", [["1"], ["*"]])
@pytest.mark.parametrize("wire", WIRES)
async def test_what_is_not_stored_and_cannot_be_published_may_be_sent_again(
    own_redis: RedisServer,
    admin: redis.Redis,
    url: str,
    namespace: str,
    wire: Wire,
    recipients: list[str],
    serving: Serving,
    join: Joining,
) -> None:
    node = backend(wire, own_redis.url, namespace)
    peer = await join(await serving(accepting(backend=node, namespace=namespace, wire=wire)), "1")
    async with AsyncDispatcher(url, namespace=namespace, wire=wire) as dispatcher:
        await dispatcher.dispatch(Message(0, "first"), recipients)
        allow(admin, "resetchannels")
        for _ in range(2):
            with pytest.raises(BackendRefused, match=r"publish|channel") as refused:
                await dispatcher.dispatch(Message(0, "second"), recipients, idempotency_key="k")
            assert not refused.value.maybe_sent
        allow(admin, "&*")
        await dispatcher.dispatch(Message(0, "second"), recipients, idempotency_key="k")
        await dispatcher.dispatch(Message(0, "second"), recipients, idempotency_key="k")
        await dispatcher.dispatch(Message(0, "last"), recipients)
        assert [each["d"] for each in await peer.messages(3)] == ["first", "second", "last"]
    assert not isinstance(node, RedisBackend) or node.lost == 0


@pytest.mark.parametrize("lost", ["-pexpire", "-rpush", "-hset", "-ltrim", "-hmget", "-lindex"])
@pytest.mark.parametrize("recipients", [["1", "2"], ["*"]])
@pytest.mark.parametrize("by_hints", [True, False])
async def test_a_right_that_is_taken_away_breaks_no_outbox(
    admin: redis.Redis,
    url: str,
    namespace: str,
    lost: str,
    recipients: list[str],
    by_hints: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    keys = Keys(namespace)
    outbox = keys.broadcasts if recipients == ["*"] else keys.outbox("1")
    position = keys.broadcast_position if recipients == ["*"] else keys.position("1")
    async with AsyncDispatcher(
        url, namespace=namespace, sync=Sync(enabled=True, max_messages=2)
    ) as dispatcher:
        for n in range(3):
            await dispatcher.dispatch(Message(0, n), recipients)
        before = admin.llen(outbox)
        if not by_hints:
            admin.hdel(position, "h")
        allow(admin, lost)
        sent = dispatcher.dispatch(Message(0, "x"), recipients, idempotency_key="k")
        if by_hints and lost == "-lindex":  # hints say what it would find
            await sent
        elif lost != "-ltrim":
            assert not (await failure(sent)).maybe_sent
            assert admin.llen(outbox) == before
        elif recipients == ["1", "2"]:  # it is stored, and an old one stays for a while
            assert (await failure(sent)).maybe_sent
        else:
            await sent
        allow(admin, f"+{lost[1:]}")
        await dispatcher.dispatch(Message(0, "x"), recipients, idempotency_key="k")
        await dispatcher.dispatch(Message(0, "y"), recipients)
    assert "corrupt" not in caplog.text
    assert not admin.keys("*z:*")
    assert [entry[-4:] for entry in admin.lrange(outbox, -2, -1)] == [b'"x"}', b'"y"}']
    assert admin.hget(position, "s") == b"5"
    assert all(admin.pttl(key) > 0 for key in admin.keys(f"mesa:{{{namespace}*"))


@pytest.mark.parametrize(("lost", "maybe_sent"), [("-hset", False), ("-pexpire", True)])
async def test_a_right_that_is_taken_away_doubles_nothing_on_the_wire_of_1x(
    admin: redis.Redis, url: str, namespace: str, lost: str, maybe_sent: bool
) -> None:
    undelivered = Keys1x(namespace).undelivered
    async with AsyncDispatcher(url, namespace=namespace, wire="mesa1", sync=STORED) as dispatcher:
        await dispatcher.dispatch(Message(0, 1), ["1"])
        allow(admin, lost)
        error = await failure(dispatcher.dispatch(Message(0, 2), ["1"], idempotency_key="k"))
        assert error.maybe_sent == maybe_sent
        allow(admin, f"+{lost[1:]}")
        await dispatcher.dispatch(Message(0, 2), ["1"], idempotency_key="k")
    assert [each["d"] for each in json.loads(admin.hget(undelivered, "1") or "")] == [1, 2]


def restrict_to_a(admin: redis.Redis, namespace: str) -> None:
    """Let the user reach no id but those that begin with a."""
    own, of_1x = Keys(namespace), Keys1x(namespace)
    shared = (
        own.leases,
        own.left,
        own.counters,
        own.secret,
        own.run,
        own.done("*"),
        of_1x.leases,
        of_1x.connected,
        of_1x.undelivered,
    )
    keys = (*shared, own.position("a*"), own.outbox("a*"), own.user("a*"), of_1x.done("*"), of_1x.user("a*"))
    allow(admin, "resetkeys", *(f"~{key}" for key in keys))


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("sync", [STORED, Sync()], ids=["stored", "live"])
async def test_a_refusal_of_some_says_that_others_may_have_been_sent(
    own_redis: RedisServer, admin: redis.Redis, url: str, namespace: str, wire: Wire, sync: Sync
) -> None:
    many = [f"a{n}" for n in range(1000)]
    with Dispatcher(url, namespace=namespace, wire=wire, sync=sync) as blocking:
        async with AsyncDispatcher(url, namespace=namespace, wire=wire, sync=sync) as dispatcher:
            await dispatcher.dispatch(Message(0, "x"), ["a"])
            await asyncio.to_thread(blocking.dispatch, Message(0, "x"), ["a"])
            restrict_to_a(admin, namespace)
            errors = [
                await failure(dispatcher.dispatch_many([(Message(0, 1), ["a"]), (Message(0, 2), ["b"])])),
                await failure(dispatcher.dispatch(Message(0, 1), [*many, "b"])),
                await failure(asyncio.to_thread(blocking.dispatch, Message(0, 1), [*many, "b"])),
                await failure(dispatcher.dispatch(Message(0, 2), ["b"])),
                await failure(asyncio.to_thread(blocking.dispatch, Message(0, 2), ["b"])),
            ]
    assert [each.maybe_sent for each in errors] == [True, True, True, False, False]
    assert [("a part may have been sent" in str(each)) for each in errors] == [True, True, True, False, False]


HOLDERS = {"a": ["near"], "b": ["far"], "c": ["near", "far"], "d": ["near"], "corrupt": [], "away": []}
"""Ids, and the nodes that hold them."""

Outcome = Receipt | BackendRefused


async def one_by_one(dispatcher: AsyncDispatcher) -> list[Outcome]:
    return [await outcome(dispatcher.dispatch(Message(0, id), [id])) for id in HOLDERS]


async def at_once(dispatcher: AsyncDispatcher) -> list[Outcome]:
    calls = [outcome(dispatcher.dispatch(Message(0, id), [id])) for id in HOLDERS]
    return [*await asyncio.gather(*calls)]


async def in_one_call(dispatcher: AsyncDispatcher) -> list[Outcome]:
    done = await outcome(dispatcher.dispatch_many([(Message(0, id), [id]) for id in HOLDERS]))
    assert isinstance(done, BackendRefused)
    assert done.maybe_sent
    return []


async def outcome(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except BackendRefused as refused:
        return refused


@pytest.mark.parametrize(("way", "runs"), [(one_by_one, 6), (at_once, 1), (in_one_call, 1)])
async def test_each_message_of_one_run_has_an_outcome_of_its_own(
    admin: redis.Redis,
    url: str,
    namespace: str,
    way: Callable[[AsyncDispatcher], Awaitable[list[Outcome]]],
    runs: int,
) -> None:
    keys, node = Keys(namespace), ScriptRunner(admin, namespace)
    node.join("near", "far")
    for id, holders in HOLDERS.items():
        for holder in holders:
            node.attach(id, holder)
    admin.set(keys.user("corrupt"), "x")
    async with AsyncDispatcher(url, namespace=namespace) as dispatcher:
        await dispatcher.dispatch(Message(0, "first"), ["away"])
        allow(admin, "resetchannels", f"&{keys.channel('near')}")
        before = admin.info("commandstats")["cmdstat_evalsha"]["calls"]
        with heard(admin.connection_pool.connection_kwargs["port"], keys.channel("near")) as frames:
            outcomes = await way(dispatcher)
    assert admin.info("commandstats")["cmdstat_evalsha"]["calls"] == before + runs
    assert [json.loads(frame[frame.index(b"{") :])["d"] for frame in frames] == [*"acd"]
    if outcomes:
        a, b, c, d, corrupt, away = outcomes
        assert all(isinstance(each, BackendRefused) for each in (b, c))
        assert [getattr(each, "maybe_sent", None) for each in outcomes] == [
            None,
            False,
            True,
            None,
            None,
            None,
        ]
        receipts = [each for each in (a, d, corrupt, away) if isinstance(each, Receipt)]
        assert [each.nodes for each in receipts] == [1, 1, 0, 0]
        deliveries = [next(iter(each.deliveries.values())) for each in receipts]
        assert [each.online for each in deliveries] == [1, 1, 0, 0]
        assert [each.dropped for each in deliveries] == [None, None, "corrupt", "offline"]
    counted = admin.hgetall(keys.counters)
    assert (counted[b"near"], counted[b"far"]) == (b"3", b"0")


@contextmanager
def heard(port: int, channel: str) -> Iterator[list[bytes]]:
    """Collect what is published to a channel while the block runs."""
    found: list[bytes] = []
    with redis.Redis(port=port) as client:
        subscription: Any = client.pubsub()
        with subscription:
            subscription.subscribe(channel)
            assert subscription.get_message(timeout=LIMIT)["type"] == "subscribe"
            yield found
            client.publish(channel, b"end")
            while (message := subscription.get_message(timeout=LIMIT))["data"] != b"end":
                found.append(message["data"])


async def failure(call: Awaitable[object]) -> BackendRefused:
    with pytest.raises(BackendRefused) as refused:
        await call
    return refused.value


@pytest.mark.parametrize("wire", WIRES)
async def test_the_api_of_a_server_says_so_too(
    admin: redis.Redis, url: str, namespace: str, wire: Wire
) -> None:
    server = accepting(backend=backend(wire, url, namespace), namespace=namespace, wire=wire)
    async with serve(server), DispatchApi(server, key=KEY, port=0) as api:
        async with AsyncDispatcher(api.url, key=KEY, sync=STORED) as dispatcher:
            restrict_to_a(admin, namespace)
            two = [(Message(0, 1), ["a"]), (Message(0, 2), ["b"])]
            errors = [
                await failure(dispatcher.dispatch_many(two)),
                await failure(dispatcher.dispatch_many(two[1:])),
            ]
        allow(admin, "~*")
    assert [each.maybe_sent for each in errors] == [True, False]
    assert str(errors[0]).count("a part may have been sent") == 1


@pytest.mark.parametrize("is_blocking", [False, True])
async def test_a_redis_that_is_refused_in_the_middle_says_what_it_may_have_written(
    own_redis: RedisServer, admin: redis.Redis, namespace: str, is_blocking: bool
) -> None:
    async def run(*commands: Command, proof: Proof | None = None) -> object:
        operation = Operation(commands, list, is_repeatable=False, proof=proof)
        if is_blocking:
            return await asyncio.to_thread(pool.run, operation, time.monotonic() + LIMIT)
        return await pipeline.carry_out(operation)

    async def refused_within(*runs: tuple[tuple[Command, ...], Proof | None]) -> list[BaseException | object]:
        admin.config_set("maxmemory-policy", "noeviction")
        assert await run(("PING",)) == [b"PONG"]  # on a connection that is checked again after a refusal
        admin.config_set("maxmemory-policy", "allkeys-lru")
        return await asyncio.gather(
            *(run(*some, proof=proof) for some, proof in runs), return_exceptions=True
        )

    admin.config_set("maxmemory", "1gb")
    address, handshake = Address.of(own_redis.url), NativeHandshake(Keys(namespace), stores=True)
    pool, pipeline = Pool(address, handshake), Pipeline(address, handshake, LIMIT)
    unknown: Command = ("EVALSHA", "0" * 40, 0)
    proof = Proof(["replicated"], lambda _: 0)
    part = ((("SET", "part", 1), unknown), None)
    nothing = ((unknown,), None)
    proven = ((("SET", "proven", 1),), proof)  # waits for its proof behind the others
    if is_blocking:
        errors = [*await refused_within(part), *await refused_within(nothing)]
    else:
        errors = await refused_within(part, nothing, proven)
    assert [getattr(error, "maybe_sent", None) for error in errors] == [True, False, True][: len(errors)]
    assert all("maxmemory-policy" in str(error) for error in errors)
    assert admin.exists("part", "proven") == len(errors) - 1
    pool.close()
    await pipeline.aclose()


@pytest.mark.parametrize("is_blocking", [False, True])
async def test_a_refused_repetition_says_that_the_first_run_may_have_written(
    admin: redis.Redis, url: str, namespace: str, is_blocking: bool
) -> None:
    async def run(proof: Proof | None = None) -> None:
        operation = Operation([("SET", "k", 1)], list, proof=proof)
        operation.begin(time.monotonic())
        assert operation.repeat(time.monotonic())
        if is_blocking:
            await asyncio.to_thread(pool.run, operation, time.monotonic() + LIMIT)
        else:
            await pipeline.carry_out(operation)

    asked = Proof(["fsync"], lambda _: 0)
    for rule, proof, why in (("+@all", asked, "durability 'fsync'"), ("-hsetnx", None, "lacks")):
        allow(admin, rule)
        address, handshake = Address.of(url), NativeHandshake(Keys(namespace))
        pool, pipeline = Pool(address, handshake), Pipeline(address, handshake, LIMIT)
        with pytest.raises(BackendUnavailable, match=f"{why}.*; the message may have been sent$"):
            await run(proof)
        pool.close()
        await pipeline.aclose()


@pytest.mark.parametrize("key", ["leases", "counters"])
async def test_a_key_of_another_type_is_found_before_anything_is_stored(
    own_redis: RedisServer, admin: redis.Redis, namespace: str, key: str
) -> None:
    keys, runner = Keys(namespace), ScriptRunner(admin, namespace)
    runner.join()
    runner.attach("1")
    admin.set(getattr(keys, key), "text")
    async with AsyncDispatcher(own_redis.url, namespace=namespace, sync=STORED) as dispatcher:
        for recipients in (["1"], ["*"]):
            error = await failure(dispatcher.dispatch(Message(0, "x"), recipients))
            assert not error.maybe_sent
    assert not admin.exists(keys.outbox("1"), keys.broadcasts)


def entries(admin: redis.Redis, stream: str) -> list[tuple[str, bytes]]:
    """The places and kinds of the letters of a stream."""
    found: Any = admin.xrange(stream)
    return [(place.decode(), fields[b"k"]) for place, fields in found]


@pytest.mark.parametrize("lost", ["-xadd", "-hset", "-hdel", "-pexpire"])
def test_events_are_not_doubled_by_a_right_that_is_taken_away(
    admin: redis.Redis, url: str, namespace: str, lost: str
) -> None:
    keys, runner = Keys(namespace), ScriptRunner(admin, namespace)
    runner.join()
    kinds: tuple[EventKind, ...] = ("connection", "message", "disconnection")
    letters = [InboxEvent("c", 3, str(n), kind, None, "node", b"x") for n, kind in enumerate(kinds, 1)]
    with redis.Redis.from_url(url) as client:
        weak = ScriptRunner(client, namespace)
        for letter in letters:
            call = AppendCommand(runner.node_commands()).of([(letter, Capacity(100, 1 << 20))])
            allow(admin, lost)
            for _ in range(2):
                with suppress(ResponseError):
                    weak.run(call)
            allow(admin, f"+{lost[1:]}")
            weak.run(call)
    assert [kind for _, kind in entries(admin, keys.queue(3))] == [each.encode() for each in kinds]
    assert not admin.exists(keys.connections("node"))


@pytest.mark.parametrize("lost", ["-xadd", "-xdel", "-hdel", "-hset", "-pexpire", "-memory"])
def test_no_event_dies_ends_or_comes_back_twice_by_a_right_that_is_taken_away(
    admin: redis.Redis, url: str, namespace: str, lost: str
) -> None:
    keys, runner = Keys(namespace), ScriptRunner(admin, namespace)
    place = PortalCommands(keys, "portal", 60.0)
    runner.join("node", "dead")
    letter = InboxEvent("c", 3, "1", "connection", None, "dead")
    runner.run(AppendCommand(runner.node_commands("dead")).of([(letter, Capacity(100, 1 << 20))]))
    [token] = [found for found in runner.run(place.heartbeat([3], stays=True))[2:] if found]
    [(entry, _)] = entries(admin, keys.queue(3))
    runner.kill("dead")
    die = place.settle([Step(3, token, "die", entry, "c", 1, reason="reason")])
    with redis.Redis.from_url(url) as client:
        weak = ScriptRunner(client, namespace)
        for call in (die, place.reap()):
            allow(admin, lost)
            for _ in range(2):
                with suppress(ResponseError):
                    weak.run(call)
            allow(admin, f"+{lost[1:]}")
            weak.run(call)
        assert admin.xlen(keys.dead) == 1
        assert [kind for _, kind in entries(admin, keys.queue(3))] == [b"disconnection"]
        [(buried, _)] = entries(admin, keys.dead)
        call = place.revive([buried])
        allow(admin, lost)
        for _ in range(2):
            with suppress(ResponseError):
                weak.run(call)
        allow(admin, f"+{lost[1:]}")
        weak.run(call)
    assert (admin.xlen(keys.dead), admin.xlen(keys.queue(3))) == (0, 2)
