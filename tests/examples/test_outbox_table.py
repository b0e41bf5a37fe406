"""The outbox table of `docs/howto/dispatch-on-commit.md`, over a real database and a real Redis."""

import asyncio
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, func, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from mesa_ws import AsyncDispatcher, BackendUnavailable, Dispatcher
from mesa_ws.backend.queries import Peek
from mesa_ws.backend.redis import BlockingRedisBus
from tests.examples.programs import LIMIT

PROGRAMS = Path(__file__).parents[2] / "examples" / "outbox_table"
NOWHERE = "redis://127.0.0.1:1"


class Blocking:
    """The table and its worker, called with `Session`."""

    name = "worker"

    def __init__(self, tables: ModuleType, worker: ModuleType, database: Path) -> None:
        self.tables, self.worker = tables, worker
        self._engine = create_engine(f"sqlite:///{database}")

    def use(self, url: str) -> None:
        self.worker.dispatcher.close()
        vars(self.worker)["dispatcher"] = Dispatcher(url, sync=True)

    def place_order(self, customer: str, total: int) -> int:
        with Session(self._engine) as session:
            number: int = self.tables.place_order(session, customer, total)
            return number

    def roll_back(self, customer: str) -> None:
        with Session(self._engine) as session:
            self.tables.dispatch_later(session, "ORDER_PLACED", "never", [customer])
            session.flush()
            session.rollback()

    def write(self, data: object, recipients: object) -> None:
        with Session(self._engine) as session:
            session.add(self.tables.Pending(type="ORDER_PLACED", data=data, recipients=recipients))
            session.commit()

    def dispatch_pending(self) -> int:
        with Session(self._engine) as session:
            count: int = self.worker.dispatch_pending(session)
            return count

    def die_after_dispatch(self) -> None:
        """End the process after the dispatch and before the rows are deleted."""
        with Session(self._engine) as session:
            vars(session)["commit"] = session.rollback
            self.worker.dispatch_pending(session)

    def close(self) -> None:
        self.worker.dispatcher.close()
        self._engine.dispose()


class InLoop(Blocking):
    """The table and its worker with `AsyncSession`, in an event loop of its own."""

    name = "async_worker"

    def __init__(self, tables: ModuleType, worker: ModuleType, database: Path) -> None:
        super().__init__(tables, worker, database)
        self._loop = asyncio.Runner()
        self._async_engine = create_async_engine(f"sqlite+aiosqlite:///{database}")

    def use(self, url: str) -> None:
        self._loop.run(self.worker.dispatcher.aclose())
        vars(self.worker)["dispatcher"] = AsyncDispatcher(url, sync=True)

    def place_order(self, customer: str, total: int) -> int:
        async def place() -> int:
            async with AsyncSession(self._async_engine) as session:
                number: int = await self.tables.place_order_async(session, customer, total)
                return number

        return self._loop.run(place())

    def roll_back(self, customer: str) -> None:
        async def roll_back() -> None:
            async with AsyncSession(self._async_engine) as session:
                self.tables.dispatch_later(session, "ORDER_PLACED", "never", [customer])
                await session.flush()
                await session.rollback()

        self._loop.run(roll_back())

    def dispatch_pending(self) -> int:
        async def dispatch() -> int:
            async with AsyncSession(self._async_engine) as session:
                count: int = await self.worker.dispatch_pending(session)
                return count

        return self._loop.run(dispatch())

    def die_after_dispatch(self) -> None:
        async def die() -> None:
            async with AsyncSession(self._async_engine) as session:
                vars(session)["commit"] = session.rollback
                await self.worker.dispatch_pending(session)

        self._loop.run(die())

    def close(self) -> None:
        self._loop.run(self.worker.dispatcher.aclose())
        self._loop.run(self._async_engine.dispose())
        self._loop.close()
        self._engine.dispose()


@pytest.fixture(params=[Blocking, InLoop], ids=["Session", "AsyncSession"])
def shop(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> Iterator[Blocking]:
    monkeypatch.syspath_prepend(PROGRAMS)
    monkeypatch.setenv("MESA_URL", redis_url)
    kind = request.param
    tables, worker = importlib.import_module("tables"), importlib.import_module(kind.name)
    shop: Blocking = kind(tables, worker, tmp_path / "shop.db")
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    tables.Base.metadata.create_all(engine)
    engine.dispose()
    yield shop
    shop.close()
    for name in ("tables", kind.name):
        del sys.modules[name]


@pytest.fixture
def customer() -> str:
    return uuid4().hex


@pytest.fixture
def waiting(redis_url: str) -> Iterator[Callable[[str], list[Any]]]:
    """Returns the data of the stored messages of an id."""
    bus = BlockingRedisBus(redis_url)
    yield lambda customer: [json.loads(stored.body)["d"] for stored in bus.query(Peek(customer, 100))]
    bus.close()


Waiting = Callable[[str], list[Any]]


def test_committed_messages_are_dispatched_in_order(shop: Blocking, waiting: Waiting, customer: str) -> None:
    placed = [shop.place_order(customer, total) for total in (5, 6)]
    shop.roll_back(customer)
    assert waiting(customer) == []
    assert [shop.dispatch_pending() for _ in range(2)] == [2, 0]
    assert waiting(customer) == [{"order": placed[0], "total": 5}, {"order": placed[1], "total": 6}]


def test_an_order_is_saved_while_redis_is_away_and_dispatched_once_it_is_back(
    shop: Blocking, waiting: Waiting, customer: str, redis_url: str
) -> None:
    shop.use(NOWHERE)
    number = shop.place_order(customer, 5)
    for _ in range(2):
        with pytest.raises(BackendUnavailable):
            shop.dispatch_pending()
    shop.use(redis_url)
    shop.dispatch_pending()
    assert waiting(customer) == [{"order": number, "total": 5}]


def test_a_worker_that_dies_before_it_deletes_sends_nothing_twice(
    shop: Blocking, waiting: Waiting, customer: str
) -> None:
    for total in (5, 6):
        shop.place_order(customer, total)
    shop.die_after_dispatch()
    assert len(waiting(customer)) == 2
    assert shop.dispatch_pending() == 2
    assert [data["total"] for data in waiting(customer)] == [5, 6]


def test_a_row_that_gets_the_number_of_a_deleted_one_is_another_message(
    shop: Blocking, waiting: Waiting, customer: str
) -> None:
    """SQLite reuses the number of a deleted last row."""
    for total in (5, 6):
        shop.place_order(customer, total)
        assert shop.dispatch_pending() == 1
    assert [data["total"] for data in waiting(customer)] == [5, 6]


def test_a_message_that_is_refused_is_set_aside_and_the_next_ones_go_on(
    shop: Blocking, waiting: Waiting, customer: str
) -> None:
    shop.write("lost", customer)  # recipients must be a list
    shop.place_order(customer, 5)
    assert [shop.dispatch_pending() for _ in range(2)] == [2, 0]
    assert [data["total"] for data in waiting(customer)] == [5]
    with Session(shop._engine) as session:
        [aside] = session.scalars(select(shop.tables.Pending)).all()
        assert "expected a list of ids, got the bare text" in (aside.error or "")


def test_the_worker_is_a_program_that_may_be_killed(
    shop: Blocking, waiting: Waiting, customer: str, tmp_path: Path
) -> None:
    driver = "sqlite+aiosqlite" if shop.name == "async_worker" else "sqlite"
    environment = os.environ | {"DATABASE_URL": f"{driver}:///{tmp_path / 'shop.db'}"}
    shop.place_order(customer, 5)
    worker = subprocess.Popen([sys.executable, str(PROGRAMS / f"{shop.name}.py")], env=environment)
    try:
        end = time.monotonic() + LIMIT
        while not waiting(customer):
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        worker.kill()
        worker.wait(LIMIT)
    shop.place_order(customer, 6)
    shop.dispatch_pending()
    assert [data["total"] for data in waiting(customer)] == [5, 6]
    with Session(shop._engine) as session:
        assert session.scalar(select(func.count()).select_from(shop.tables.Pending)) == 0
