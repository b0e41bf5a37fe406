"""Message sync over the wire: what is stored arrives later, in order, until it is acknowledged."""

from mesa_ws.messages.message import Message

from .conftest import Joining, Serving
from .sync import data, numbers, send, storing, until_unproven


async def test_what_was_sent_to_somebody_away_arrives_after_login_and_before_later_messages(
    serving: Serving, join: Joining
) -> None:
    server = storing()
    endpoint = await serving(server)
    await send(server, 1, 2, 3)
    peer = await join(endpoint)
    await peer.log_in("1")
    await send(server, 4)
    frames = await peer.messages(4)
    assert (data(frames), numbers(frames)) == ([1, 2, 3, 4], [1, 2, 3, None])


async def test_an_answer_to_a_heartbeat_proves_what_came_before(serving: Serving, join: Joining) -> None:
    server = storing()
    endpoint = await serving(server)
    await send(server, 1, 2)
    peer = await join(endpoint)
    await peer.log_in("1")
    await peer.messages(2)
    await peer.answer()
    await until_unproven(server, 0)
    await peer.socket.close()
    peer = await join(endpoint)
    await peer.log_in("1")
    await send(server, 3)
    assert data(await peer.messages(1)) == [3]


async def test_what_was_not_proven_comes_again(serving: Serving, join: Joining) -> None:
    server = storing()
    endpoint = await serving(server)
    await send(server, 1)
    first = await join(endpoint)
    await first.log_in("1")
    await send(server, 2)
    await first.messages(2)
    await first.socket.close()
    second = await join(endpoint)
    await second.log_in("1")
    frames = await second.messages(2)
    assert (data(frames), numbers(frames)) == ([1, 2], [1, 2])


async def test_live_messages_are_proven_too(serving: Serving, join: Joining) -> None:
    server = storing()
    peer = await join(await serving(server))
    await peer.log_in("1")
    await send(server, 1, 2)
    frames = await peer.messages(2)
    assert numbers(frames) == [None, None]
    await peer.answer()
    await until_unproven(server, 0)


async def test_wire_2_resumes_where_it_was(serving: Serving, join: Joining) -> None:
    server = storing()
    endpoint = await serving(server)
    await send(server, 1, 2)
    peer = await join(endpoint)
    x = await peer.log_in("1", wire=2)
    assert (x["s"], x["status"], x["lost"]) == (0, "fresh", 0)
    await send(server, 3)
    frames = await peer.messages(3)
    assert (data(frames), numbers(frames)) == ([1, 2, 3], [1, 2, 3])
    await peer.acknowledge(x["e"], 2)
    await peer.socket.close()
    await send(server, 4)
    peer = await join(endpoint)
    again = await peer.log_in("1", wire=2, resume={"e": x["e"], "s": 2})
    assert (again["e"], again["s"], again["status"], again["lost"]) == (x["e"], 2, "resumed", 0)
    assert numbers(await peer.messages(2)) == [3, 4]


async def test_op_3_settles_what_wire_2_has_handled(serving: Serving, join: Joining) -> None:
    server = storing()
    peer = await join(await serving(server))
    x = await peer.log_in("1", wire=2)
    await send(server, 1, 2)
    await peer.messages(2)
    await peer.acknowledge(x["e"], 1)
    await until_unproven(server, 1)
    await peer.acknowledge(x["e"], 2)
    await until_unproven(server, 0)


async def test_wire_2_resumes_messages_to_everybody(serving: Serving, join: Joining) -> None:
    server = storing()
    endpoint = await serving(server)
    peer = await join(endpoint)
    x = await peer.log_in("1", wire=2)
    await server.send(Message(0, 1, "ALL"))
    [first] = await peer.messages(1)
    assert (first["b"], "s" in first) == (x["b"]["s"] + 1, False)
    await peer.socket.close()
    await server.send(Message(0, 2, "ALL"))
    await server.send(Message(0, 3, "ALL"), excluding=["1"])
    await server.send(Message(0, 4, "ALL"))
    peer = await join(endpoint)
    place = {"e": x["b"]["e"], "s": first["b"]}
    again = await peer.log_in("1", wire=2, resume={"b": place})
    assert (again["b"]["s"], again["b"]["status"]) == (first["b"], "resumed")
    await server.send(Message(0, 5, "ALL"))
    frames = await peer.messages(3)
    assert data(frames) == [2, 4, 5]
    assert [frame["b"] - first["b"] for frame in frames] == [1, 3, 4]


async def test_a_long_backlog_arrives_whole_and_in_order(serving: Serving, join: Joining) -> None:
    server = storing()
    endpoint = await serving(server)
    await send(server, *range(900))
    peer = await join(endpoint)
    await peer.log_in("1")
    await send(server, 900)
    frames = await peer.messages(901)
    assert data(frames) == list(range(901))
    assert numbers(frames) == [*range(1, 901), None]


async def test_messages_to_everybody_are_numbered_for_whom_nobody_is_known_yet(
    serving: Serving, join: Joining
) -> None:
    server = storing()
    endpoint = await serving(server)
    anonymous, known = await join(endpoint), await join(endpoint)
    await anonymous.until(op=10)
    await known.log_in("1")
    await server.send(Message(0, 1, "ALL"))
    await server.send(Message(0, 2, "ALL", sync=False))
    assert [frame.get("b") for frame in await anonymous.messages(2)] == [1, None]
    assert [frame.get("b") for frame in await known.messages(2)] == [None, None]
