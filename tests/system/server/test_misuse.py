"""Misuse by a program raises errors there, and affects nothing else."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from mesa_ws.backend.memory import MemoryBackend
from mesa_ws.errors import InvalidInput, InvalidSettings, ListenFailed, MesaError, Unsupported
from mesa_ws.messages.message import Message
from mesa_ws.messages.recipients import User
from mesa_ws.server.connection import Connection
from mesa_ws.transports.run import Server, serve

from .conftest import Joining, Serving, accepting
from .peer import Peer

Act = Callable[[Connection], None]


async def test_a_user_that_is_none_is_refused(serving: Serving, join: Joining) -> None:
    server = accepting()
    await join(await serving(server), "1")
    (connection,) = server.connections
    with pytest.raises(InvalidInput, match=r"update_user: expected User\(id, data\), got dict"):
        await asyncio.to_thread(connection.update_user, {"id": "2"})  # type: ignore[arg-type]
    assert connection.id == "1"


def test_ids_are_always_declared() -> None:
    with pytest.raises(Unsupported, match="store_connected_users: expected True"):
        Server(authentication={"store_connected_users": False})


async def test_of_two_updates_the_one_that_moves_the_connection_counts(
    serving: Serving, join: Joining
) -> None:
    server = accepting()
    await join(await serving(server), "1")
    (connection,) = server.connections
    thread = threading.Thread(target=connection.update_user, args=[User("late")])
    thread.start()
    thread.join()
    connection.update_user(User("early"))
    await asyncio.sleep(0)
    assert (connection.id, *server.fanout.by_id) == ("late", "late")


@pytest.mark.parametrize(
    "act",
    [Connection.disconnect, lambda connection: connection.update_user(User("2"))],
    ids=["disconnect", "update_user"],
)
async def test_a_connection_that_has_ended_stays_so_from_threads_too(join: Joining, act: Act) -> None:
    server = accepting()
    async with serve(server) as endpoint:
        await join(endpoint, "1")
        (connection,) = server.connections
    await asyncio.to_thread(act, connection)
    assert not connection.is_open


async def test_a_server_is_served_once_at_a_time(serving: Serving, join: Joining) -> None:
    server = accepting()
    endpoint = await serving(server)
    with pytest.raises(MesaError, match="the server is running already"):
        await serving(server)
    await join(endpoint, "1")


async def test_a_server_sends_in_its_own_event_loop(serving: Serving) -> None:
    server = accepting()
    await serving(server)

    def send() -> None:
        asyncio.run(server.send(Message(0, {}, "T")))

    with pytest.raises(MesaError, match="in another event loop than the server's"):
        await asyncio.to_thread(send)


async def test_a_server_runs_in_the_main_thread() -> None:
    with pytest.raises(MesaError, match=r"server\.run: expected the main thread"):
        await asyncio.to_thread(Server().run, "127.0.0.1", 0)


@pytest.mark.parametrize("port", [70_000, -1, "4000", None])
async def test_a_port_that_is_none_is_refused(port: object) -> None:
    with pytest.raises(InvalidSettings, match=r"^port: expected an integer from 0 to 65535, got"):
        async with serve(Server(), port=port):  # type: ignore[arg-type]
            pass


@pytest.mark.parametrize("host", [None, 5, (), ("127.0.0.1", ""), ("127.0.0.1", 1)])
async def test_a_host_that_is_none_is_refused(host: object) -> None:
    with pytest.raises(
        InvalidSettings, match=r"^host: expected an address or a name of this machine, a list"
    ):
        async with serve(Server(), host):  # type: ignore[arg-type]
            pass


async def test_a_host_that_no_name_is_like_is_one_clear_error() -> None:
    with pytest.raises(ListenFailed, match=r"^cannot listen on a\.\.b:0: that is no name of a host$"):
        async with serve(Server(), "a..b"):
            pass


async def test_a_stop_that_is_cancelled_leaves_the_cluster_all_the_same() -> None:
    backend, is_over = MemoryBackend(), asyncio.Event()
    server = Server(backend)

    @server.on_connection
    async def stay(connection: Connection) -> None:
        await is_over.wait()

    async with serve(server) as endpoint, Peer.connect(endpoint.url):
        stopping = asyncio.ensure_future(server.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        await asyncio.wait([stopping])
        assert stopping.cancelled()
        assert not backend.is_ready
        is_over.set()
