"""The wire as a client sees it: greeting, authentication, and the answers to bad input."""

import asyncio
from typing import Any

import pytest

from mesa_ws.errors import Refused
from mesa_ws.messages.message import Message
from mesa_ws.messages.recipients import User
from mesa_ws.server.connection import Connection
from mesa_ws.transports.run import Server

from .conftest import Joining, Serving, accepting
from .peer import RawPeer


def echoing(**options: Any) -> Server:
    server = accepting(**options)

    @server.on_message("PING")
    async def pong(message: Message, connection: Connection) -> None:
        connection.send(Message(0, {}, "PONG"))

    @server.on_message("ECHO")
    async def echo(message: Message, connection: Connection) -> None:
        connection.send(Message(0, message.data, "ECHO"))

    return server


async def test_hello_is_the_first_frame_and_says_what_is_configured(serving: Serving, join: Joining) -> None:
    peer = await join(await serving(echoing(heartbeat=True, reconnect=True)))
    assert await peer.receive() == {
        "op": 10,
        "d": {
            "c_heartbeat_interval": 10000,
            "c_reconnect_interval": 5000,
            "c_authentication_timeout": 10000,
            "rules": ["sends_user_object"],
            "v": 2,
        },
    }


async def test_authentication_is_acknowledged_with_the_user_object(serving: Serving, join: Joining) -> None:
    peer = await join(await serving(echoing()))
    assert await peer.authenticate("1") == {"id": "1"}


async def test_an_accepted_user_object_can_be_kept_back(serving: Serving, join: Joining) -> None:
    peer = await join(await serving(echoing(authentication={"send_user_object": False})))
    assert await peer.authenticate("1") == {}


async def test_a_message_sent_right_after_op_2_is_handled_as_the_users(
    serving: Serving, join: Joining
) -> None:
    server = Server()
    who: asyncio.Queue[str | None] = asyncio.Queue()

    @server.authenticator
    async def slowly(data: Any, connection: Connection) -> User:
        await asyncio.sleep(0)
        return User("1")

    @server.on_message
    async def note(message: Message, connection: Connection) -> None:
        who.put_nowait(connection.id)

    peer = await join(await serving(server))
    await peer.send(op=2)
    await peer.send("HELLO")
    assert await who.get() == "1"


@pytest.mark.parametrize("data", [1.5, {"a": [1, None, {"b": "é漢😀\u2028"}]}, [], "x", 0, 2**53, None, True])
async def test_any_json_comes_back_unchanged(serving: Serving, join: Joining, data: Any) -> None:
    peer = await join(await serving(echoing()))
    await peer.send("ECHO", data)
    assert (await peer.until(t="ECHO"))["d"] == data


async def test_a_burst_is_answered_completely_and_in_order(serving: Serving, join: Joining) -> None:
    peer = await join(await serving(echoing()), "1")
    for n in range(500):
        await peer.send("ECHO", n)
    assert [(await peer.until(t="ECHO"))["d"] for _ in range(500)] == list(range(500))


async def test_refusal_by_none_closes_1008(serving: Serving, join: Joining) -> None:
    peer = await join(await serving(echoing()))
    await peer.send(data={"id": "bad"}, op=2)
    assert await peer.closed() == 1008
    assert [frame["op"] for frame in peer.frames] == [10]


def failing(error: Exception, **options: Any) -> Server:
    server = Server(**options)

    @server.authenticator
    def authenticate(data: Any, connection: Connection) -> User:
        raise error

    return server


async def test_refusal_by_exception_closes_1008(serving: Serving, join: Joining) -> None:
    peer = await join(await serving(failing(Refused("no such user"))))
    await peer.send(data={}, op=2)
    assert await peer.closed() == 1008


async def test_an_authenticator_that_fails_closes_1011_and_is_reported(
    serving: Serving, join: Joining
) -> None:
    error = RuntimeError("database is away")
    server = failing(error)
    reported: asyncio.Queue[BaseException] = asyncio.Queue()

    @server.on_error
    def report(error: BaseException, connection: Connection | None) -> None:
        asyncio.run_coroutine_threadsafe(reported.put(error), loop)

    loop = asyncio.get_running_loop()
    peer = await join(await serving(server))
    await peer.send(data={}, op=2)
    assert await peer.closed() == 1011
    assert await reported.get() is error


@pytest.mark.parametrize("result", ["1", {"id": "1"}, 1])
async def test_an_authenticator_that_returns_no_user_closes_1011(
    serving: Serving, join: Joining, result: Any
) -> None:
    server = Server()
    server.authenticator(lambda data, connection: result)
    peer = await join(await serving(server))
    await peer.send(data={}, op=2)
    assert await peer.closed() == 1011


@pytest.mark.parametrize("wrong", [object(), {None: 1}, {1: "a", "1": "b"}])
async def test_a_user_object_that_is_no_json_closes_1011(
    serving: Serving, join: Joining, wrong: object
) -> None:
    server = Server()
    server.authenticator(lambda data, connection: User("1", data=wrong))
    peer = await join(await serving(server))
    await peer.send(data={}, op=2)
    assert await peer.closed() == 1011


async def test_an_authenticator_that_takes_too_long_closes_1011(serving: Serving, join: Joining) -> None:
    server = Server(authentication={"timeout": 0.05})

    @server.authenticator
    async def never(data: Any, connection: Connection) -> User:
        await asyncio.Event().wait()
        raise AssertionError

    peer = await join(await serving(server))
    await peer.send(data={}, op=2)
    assert await peer.closed() == 1011


async def test_a_client_that_never_authenticates_is_closed_at_the_deadline(
    serving: Serving, join: Joining
) -> None:
    peer = await join(await serving(echoing(authentication={"timeout": 0.05})))
    assert await peer.closed() == 1008


async def test_without_an_authenticator_there_is_no_deadline(serving: Serving, join: Joining) -> None:
    server = Server(authentication={"timeout": 0.05}, heartbeat={"enabled": True, "interval": 0.2})
    peer = await join(await serving(server))
    assert (await peer.until(op=1))["d"] == {}


async def test_op_2_without_an_authenticator_is_refused_and_not_shown(
    serving: Serving, join: Joining
) -> None:
    server = Server()
    seen: list[Message] = []
    server.on_message(lambda message, connection: seen.append(message))
    peer = await join(await serving(server))
    await peer.send(data={"token": "secret"}, op=2)
    assert await peer.closed() == 1008
    assert seen == []


async def test_a_refused_client_can_be_kept(serving: Serving, join: Joining) -> None:
    peer = await join(await serving(echoing(authentication={"disconnect_on_fail": False, "timeout": 0.2})))
    await peer.send(data={"id": "bad"}, op=2)
    await peer.send("PING")
    assert (await peer.until(t="PONG"))["op"] == 0
    assert await peer.authenticate("1") == {"id": "1"}


async def test_authenticating_again_replaces_the_user_and_forgets_the_old_id(
    serving: Serving, join: Joining
) -> None:
    server = echoing()
    peer = await join(await serving(server), "1")
    assert await peer.authenticate("2") == {"id": "2"}
    await server.send(Message(0, 1, "OLD"), ["1"])
    await server.send(Message(0, 2, "NEW"), ["2"])
    assert (await peer.until(op=0))["t"] == "NEW"


MALFORMED = {
    "not JSON": "not json",
    "nothing": "",
    "null": "null",
    "a number": "5",
    "a list": "[]",
    "a string": '"x"',
    "op as text": '{"op":"0"}',
    "op as a fraction": '{"op":0.5}',
    "op as null": '{"op":null}',
    "a negative op": '{"op":-1}',
    "an enormous op": '{"op":99999999999999999999}',
    "type as a number": '{"op":0,"t":5}',
    "NaN": '{"op":0,"d":NaN}',
    "an integer of 10 000 digits": '{"op":0,"d":' + "1" * 10000 + "}",
    "nesting 200 000 deep": '{"op":0,"d":' + "[" * 200_000 + "]" * 200_000 + "}",
    "a lone surrogate": '{"op":0,"d":"\\ud800"}',
    "invalid UTF-8": b'{"op":0,"d":"\xff"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
}


@pytest.mark.parametrize("payload", MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed_input_closes_that_connection_and_no_other(
    serving: Serving, join: Joining, payload: str | bytes
) -> None:
    endpoint = await serving(echoing())
    neighbour = await join(endpoint, "1")
    peer = await join(endpoint, "2")
    await peer.raw(payload)
    assert await peer.closed() == 1007
    assert await neighbour.received("ANYTHING") == []


ORDINARY = [
    "{}",
    '{"op":99,"d":{"x":1}}',
    '{"op":7}',
    '{"op":1}',
    '{"op":5,"t":"DISCONNECT_CLIENT"}',
    '{"op":10}',
]


@pytest.mark.parametrize("payload", ORDINARY)
async def test_what_the_protocol_does_not_use_is_an_ordinary_message(
    serving: Serving, join: Joining, payload: str
) -> None:
    server = echoing()
    seen: list[Message] = []
    server.on_message(lambda message, connection: seen.append(message))
    peer = await join(await serving(server))
    await peer.raw(payload)
    assert await peer.received("ANYTHING") == []
    assert seen  # messages are handled in order, so it was seen before PING was answered


async def test_a_binary_frame_is_read_as_text(serving: Serving, join: Joining) -> None:
    peer = await join(await serving(echoing()))
    await peer.raw(b'{"op":0,"d":7,"t":"ECHO"}')
    assert (await peer.until(t="ECHO"))["d"] == 7


@pytest.mark.native("an empty close frame")
async def test_heartbeats_count_and_close_with_an_empty_frame(serving: Serving, join: Joining) -> None:
    peer = await join(
        await serving(echoing(heartbeat={"enabled": True, "interval": 0.05, "max_attempts": 2}))
    )
    assert await peer.closed() == 1005
    beats = [frame["d"] for frame in peer.frames if frame["op"] == 1]
    assert beats == [{}, {"tries": 1, "max": 2}, {"tries": 2, "max": 2}]


@pytest.mark.native("frames")
@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([(0x1, b"{}", True, 4)], 1002),
        ([(0x3, b"", True, 0)], 1002),
        ([(0xB, b"", True, 0)], 1002),
        ([(0x0, b"{}", True, 0)], 1002),
        ([(0x1, b"{", False, 0), (0x1, b"}", True, 0)], 1002),
        ([(0x9, b"", False, 0)], 1002),
        ([(0x1, b"x", False, 0)] + [(0x0, b"x", False, 0)] * 63, 1009),
    ],
    ids=[
        "reserved bit",
        "reserved opcode",
        "reserved control",
        "lone continuation",
        "nested",
        "split ping",
        "endless",
    ],
)
async def test_broken_frames_close_that_connection(
    serving: Serving, join: Joining, frames: list[tuple[int, bytes, bool, int]], code: int
) -> None:
    endpoint = await serving(echoing())
    neighbour = await join(endpoint, "1")
    async with RawPeer.connect(endpoint.host, endpoint.port) as peer:
        await peer.upgrade()
        for opcode, payload, fin, rsv in frames:
            await peer.frame(opcode, payload, fin=fin, rsv=rsv)
        assert int.from_bytes((await peer.close_frame())[:2]) == code
    assert await neighbour.received("ANYTHING") == []


async def test_an_unmasked_frame_closes_that_connection(serving: Serving, join: Joining) -> None:
    endpoint = await serving(echoing())
    async with RawPeer.connect(endpoint.host, endpoint.port) as peer:
        await peer.upgrade()
        peer.writer.write(b"\x81\x02{}")
        assert int.from_bytes((await peer.close_frame())[:2]) == 1002


async def test_a_fragmented_message_is_joined(serving: Serving, join: Joining) -> None:
    endpoint = await serving(echoing())
    async with RawPeer.connect(endpoint.host, endpoint.port) as peer:
        await peer.upgrade()
        await peer.frame(0x1, b'{"op":0,', fin=False)
        await peer.frame(0x9, b"between")
        await peer.frame(0x0, b'"t":"PING"}')
        await peer.next_frame()
        assert await peer.next_frame() == (0xA, b"between")
        assert await peer.next_frame() == (0x1, b'{"op":0,"d":{},"t":"PONG"}')


async def test_a_close_frame_is_answered_with_the_same(serving: Serving) -> None:
    endpoint = await serving(echoing())
    async with RawPeer.connect(endpoint.host, endpoint.port) as peer:
        await peer.upgrade()
        await peer.frame(0x8, (4321).to_bytes(2) + b"bye")
        assert await peer.close_frame() == (4321).to_bytes(2) + b"bye"
        assert await peer.reader.read() == b""


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65_535])
async def test_a_code_that_no_close_frame_may_carry_closes_1002(serving: Serving, code: int) -> None:
    endpoint = await serving(echoing())
    async with RawPeer.connect(endpoint.host, endpoint.port) as peer:
        await peer.upgrade()
        await peer.frame(0x8, code.to_bytes(2))
        assert (await peer.close_frame())[:2] == (1002).to_bytes(2)
        assert await peer.reader.read() == b""


async def test_an_empty_close_frame_is_answered_with_one(serving: Serving) -> None:
    endpoint = await serving(echoing())
    async with RawPeer.connect(endpoint.host, endpoint.port) as peer:
        await peer.upgrade()
        await peer.frame(0x8)
        assert await peer.close_frame() == b""


async def test_a_client_that_never_names_its_version_is_closed(serving: Serving, join: Joining) -> None:
    server = accepting(authentication={"timeout": 0.5}, rules={"enforce_equal_versions": True})
    endpoint = await serving(server)
    silent, right = await join(endpoint, "1"), await join(endpoint, "2")
    await right.send("CLIENT_VERSION", {"v": "1.5.8"})
    assert await silent.closed() == 1002
    assert [(each.id, each.is_open) for each in server.connections] == [("2", True)]


async def test_equal_versions_are_enforced(serving: Serving, join: Joining) -> None:
    endpoint = await serving(echoing(rules={"enforce_equal_versions": True}))
    old, right = await join(endpoint), await join(endpoint)
    await old.send("CLIENT_VERSION", {"v": "1.5.3"})
    assert await old.closed() == 1002
    await right.send("CLIENT_VERSION", {"v": "1.5.8"})
    assert await right.authenticate("1") == {"id": "1"}
