"""Stores that keep a client's positions over restarts of its program."""

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mesa_ws.client import Client, FilePositions, PositionStore
from mesa_ws.errors import ConnectFailed, ConnectionClosed

from .conftest import meet
from .scripted import LIMIT, ScriptedServer
from .test_missed_messages import accept, ack, ask, at, meet_resumer, numbers, store

FIVE = b'{"e":"aa","s":5,"b":{"e":"bb","s":3}}'


class Shelf:
    """A store whose methods are `def`."""

    def __init__(self, data: bytes | None = None) -> None:
        self.data = data
        self.saved: asyncio.Queue[bytes] = asyncio.Queue()

    def load(self) -> bytes | None:
        return self.data

    def save(self, data: bytes) -> None:
        self.data = data
        self.saved.put_nowait(data)


class SlowShelf:
    """A store whose methods are `async def`, and wait until they may go on."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.saved: list[bytes] = []

    async def load(self) -> bytes | None:
        await asyncio.sleep(0)
        return FIVE

    async def save(self, data: bytes) -> None:
        self.begun.set()
        await self.may_go_on.wait()
        self.saved.append(data)


class BrokenShelf(Shelf):
    """A store that fails as often as the test wants."""

    def __init__(self, *, loads: int = 0, saves: int = 0) -> None:
        super().__init__(FIVE)
        self.failures = {"load": loads, "save": saves}

    def load(self) -> bytes | None:
        self._fail("load")
        return super().load()

    def save(self, data: bytes) -> None:
        self._fail("save")
        super().save(data)

    def _fail(self, action: str) -> None:
        if self.failures[action]:
            self.failures[action] -= 1
            raise OSError(f"cannot {action}")


async def resume_of(scripted: ScriptedServer, shelf: PositionStore) -> Any:
    """What a new client with this store asks for."""
    client = scripted.client(positions=shelf)
    guest = await meet(scripted, client, v=2)
    authenticating = asyncio.create_task(client.authenticate({"id": "1"}))
    extension = await accept(guest, at(5))
    await authenticating
    await client.aclose()
    return extension.get("resume")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_client_goes_on_where_the_one_before_was(scripted: ScriptedServer) -> None:
    shelf = Shelf()
    client = scripted.client(positions=shelf)
    guest = await meet_resumer(scripted, client, at(5, status="fresh", b=at(3, "bb", "fresh")))
    await store(guest, 6, 7, 8)
    assert await numbers(client, 2) == [6, 7]
    await client.aclose()
    assert await resume_of(scripted, shelf) == {"e": "aa", "s": 6, "b": {"e": "bb", "s": 3}}


async def test_where_a_new_client_begins_is_kept_as_well(scripted: ScriptedServer) -> None:
    shelf = Shelf()
    client = scripted.client(positions=shelf)
    await meet_resumer(scripted, client)
    reading = asyncio.ensure_future(anext(client))
    async with asyncio.timeout(LIMIT):
        assert json.loads(await shelf.saved.get()) == {"e": "aa", "s": 5}
    reading.cancel()


async def test_it_is_saved_before_it_is_acknowledged(scripted: ScriptedServer) -> None:
    shelf = SlowShelf()
    client = scripted.client(positions=shelf)
    client.on_message(lambda message: None)
    guest = await meet_resumer(scripted, client, at(5))
    await store(guest, 6)
    async with asyncio.timeout(LIMIT):
        await shelf.begun.wait()
    assert await ask(guest) == []
    assert shelf.saved == []
    await store(guest, 7)
    shelf.may_go_on.set()
    assert await guest.receive() == ack(6)
    assert await guest.receive() == ack(7)
    assert [json.loads(data)["s"] for data in shelf.saved] == [6, 7]


async def test_a_heartbeat_hurries_the_store(scripted: ScriptedServer) -> None:
    client = scripted.client(positions=Shelf(FIVE))
    guest = await meet_resumer(scripted, client, at(5))
    await store(guest, *range(6, 8))
    await numbers(client, 2)
    assert await ask(guest) == []
    assert await guest.receive() == ack(6)


async def test_closing_saves_and_acknowledges(scripted: ScriptedServer) -> None:
    shelf = SlowShelf()
    client = scripted.client(positions=shelf)
    guest = await meet_resumer(scripted, client, at(5))
    await store(guest, 6, 7)
    await numbers(client, 2)
    closing = asyncio.create_task(client.aclose())
    async with asyncio.timeout(LIMIT):
        await shelf.begun.wait()
    shelf.may_go_on.set()
    assert await guest.receive() == ack(6)
    assert await guest.closed() == (1000, "")
    await closing


async def test_what_a_callback_finishes_while_the_client_closes_is_saved(scripted: ScriptedServer) -> None:
    shelf = Shelf()
    client = scripted.client(positions=shelf)
    begun, may_go_on = asyncio.Event(), asyncio.Event()

    @client.on_message
    async def work(message: Any) -> None:
        begun.set()
        await may_go_on.wait()

    guest = await meet_resumer(scripted, client)
    await store(guest, 6)
    async with asyncio.timeout(LIMIT):
        await begun.wait()
    closing = asyncio.create_task(client.aclose())
    await guest.closed()
    assert json.loads(shelf.data or b"{}")["s"] == 5
    may_go_on.set()
    await closing
    assert json.loads(shelf.data or b"{}")["s"] == 6


async def test_what_a_callback_has_handled_that_closes_the_client_is_saved(scripted: ScriptedServer) -> None:
    shelf = Shelf()
    client = scripted.client(positions=shelf)
    client.on_message(lambda message: client.aclose())
    guest = await meet_resumer(scripted, client)
    await store(guest, 6)
    await guest.closed()
    await client.aclose()
    assert json.loads(shelf.data or b"{}")["s"] == 6


async def test_a_callback_that_closes_the_client_needs_nobody_to_close_it_again(
    scripted: ScriptedServer,
) -> None:
    shelf = Shelf()
    client = scripted.client(positions=shelf)
    client.on_message(lambda message: client.aclose())
    guest = await meet_resumer(scripted, client)
    loop = asyncio.get_running_loop()
    await store(guest, 6)
    await guest.closed()
    begun = loop.time()
    await until(lambda: json.loads(shelf.data or b"{}")["s"] == 6)
    assert loop.time() - begun < 0.9  # which is before the time to acknowledge


async def test_what_is_taken_after_the_last_connection_is_saved(scripted: ScriptedServer) -> None:
    shelf = Shelf()
    client = scripted.client(positions=shelf, reconnect=False)
    guest = await meet_resumer(scripted, client)
    await store(guest, 6, 7)
    await guest.close(1000)
    with pytest.raises(ConnectionClosed):
        await client.wait_closed()
    for _ in range(10):  # until the callbacks have been told, too
        await asyncio.sleep(0)
    assert await numbers(client, 2) == [6, 7]
    with pytest.raises(ConnectionClosed):
        await anext(client)
    await client.aclose()
    assert json.loads(shelf.data or b"{}")["s"] == 7


async def test_a_store_that_cannot_save_is_reported_and_nothing_is_acknowledged(
    scripted: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    reported: asyncio.Queue[Exception] = asyncio.Queue()
    shelf = BrokenShelf(saves=1)
    client = scripted.client(positions=shelf)
    client.on_error(reported.put_nowait)
    client.on_message(lambda message: None)
    with caplog.at_level(logging.WARNING, "mesa_ws.client"):
        guest = await meet_resumer(scripted, client, at(5))
        await store(guest, 6)
        async with asyncio.timeout(LIMIT):
            assert str(await reported.get()) == "cannot save"
    assert "the store of positions failed to save" in caplog.text
    await guest.send(op=1, d={})
    assert (await guest.receive())["op"] == 11
    assert await guest.receive() == ack(6)  # as the heartbeat made it try again
    assert reported.empty()


async def test_what_was_not_saved_is_not_said_to_be_handled(scripted: ScriptedServer) -> None:
    failed = asyncio.Event()
    client = scripted.client(positions=BrokenShelf(saves=1000))
    client.on_error(lambda error: failed.set())
    guest = await meet_resumer(scripted, client, at(5))
    await store(guest, 6, 7)
    assert await numbers(client, 2) == [6, 7]
    async with asyncio.timeout(LIMIT):
        await failed.wait()
    guest.cut()
    second = await scripted.guest(v=2)
    assert (await accept(second, at(5)))["resume"]["s"] == 5
    await store(second, 6, 7, 8)
    assert await numbers(client, 1) == [8]


async def test_a_store_that_cannot_load_is_reported_and_asked_for_nothing(scripted: ScriptedServer) -> None:
    reported: asyncio.Queue[Exception] = asyncio.Queue()
    client = scripted.client(positions=BrokenShelf(loads=1))
    client.on_error(reported.put_nowait)
    guest = await meet(scripted, client, v=2)
    async with asyncio.timeout(LIMIT):
        assert str(await reported.get()) == "cannot load"
    authenticating = asyncio.create_task(client.authenticate({"id": "1"}))
    assert await accept(guest, at(5, status="fresh")) == {"v": 2}
    await authenticating


async def test_what_cannot_be_read_is_no_position(
    scripted: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "mesa_ws.client"):
        assert await resume_of(scripted, Shelf(b"something else")) is None
    assert "cannot read the stored positions" in caplog.text


async def test_a_connection_that_failed_does_not_forget_what_was_loaded() -> None:
    async with ScriptedServer() as first:
        client = Client(first.url, positions=Shelf(FIVE))
    with pytest.raises(ConnectFailed):
        await client.connect()
    async with ScriptedServer(first.port) as second:
        guest = await meet(second, client, v=2)
        authenticating = asyncio.create_task(client.authenticate({"id": "1"}))
        assert (await accept(guest, at(5)))["resume"] == json.loads(FIVE)
        await authenticating
        await client.aclose()


# The store in a file.


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def test_a_file_keeps_what_was_saved_last(tmp_path: Path) -> None:
    positions = FilePositions(tmp_path / "positions")
    assert await positions.load() is None
    await positions.save(b"first")
    await positions.save(b"second")
    assert await FilePositions(tmp_path / "positions").load() == b"second"
    assert names(tmp_path) == ["positions"]


async def test_a_file_that_cannot_be_replaced_stays_as_it_was(tmp_path: Path) -> None:
    positions = FilePositions(tmp_path / "positions")
    await positions.save(b"first")
    (tmp_path / "positions.new").mkdir()
    with pytest.raises(OSError, match=r"positions\.new"):
        await positions.save(b"second")
    assert await positions.load() == b"first"


async def test_a_client_keeps_its_positions_in_a_file(scripted: ScriptedServer, tmp_path: Path) -> None:
    path = tmp_path / "positions"
    client = scripted.client(positions=FilePositions(path))
    guest = await meet_resumer(scripted, client)
    await store(guest, 6)
    await numbers(client, 1)
    await client.aclose()
    assert await resume_of(scripted, FilePositions(path)) == {"e": "aa", "s": 5}


async def test_a_position_is_saved_while_the_client_is_away(scripted: ScriptedServer) -> None:
    shelf = Shelf()
    client = scripted.client(positions=shelf, reconnect={"interval": 60})
    guest = await meet_resumer(scripted, client)
    await store(guest, 6, 7)
    assert await numbers(client, 1) == [6]
    guest.cut()
    await until(lambda: not client.is_connected)
    await numbers(client, 1)
    await until(lambda: json.loads(shelf.data or b"{}").get("s") == 6)
