"""The recipes of `docs/howto/dispatch-on-commit.md`, each over a real database and a real Redis."""

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import django
import pytest
from django.conf import settings
from django.db import connection, transaction
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from mesa_ws.backend.queries import Peek
from mesa_ws.backend.redis import BlockingRedisBus
from mesa_ws.dispatcher import Dispatcher
from mesa_ws.errors import BackendUnavailable
from tests.redis_server import RedisServer

RECIPES = Path(__file__).parents[2] / "examples" / "on_commit"

NOWHERE = "redis://127.0.0.1:1"

Recipe = Callable[[str], ModuleType]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start("--appendonly", "no")
    yield server
    server.stop()


@pytest.fixture
def recipe(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recipe]:
    """Loads a recipe, which dispatches to the Redis of the tests."""
    monkeypatch.setenv("MESA_URL", redis.url)
    loaded: list[ModuleType] = []

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"recipe_{name}", RECIPES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        loaded.append(module)
        return module

    yield load
    for module in loaded:
        module.dispatcher.close()


@pytest.fixture
def customer() -> str:
    return uuid4().hex


@pytest.fixture
def waiting(redis: RedisServer) -> Iterator[Callable[[str], list[Any]]]:
    """Returns the data of the stored messages of an id."""
    bus = BlockingRedisBus(redis.url)
    yield lambda customer: [json.loads(stored.body)["d"] for stored in bus.query(Peek(customer, 100))]
    bus.close()


Waiting = Callable[[str], list[Any]]


@pytest.fixture(scope="module")
def shop(redis: RedisServer) -> Iterator[ModuleType]:
    """The recipe for Django, with its table; Django can be set up only once in a process."""
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    settings.configure(DATABASES={"default": database}, DEFAULT_AUTO_FIELD="django.db.models.BigAutoField")
    django.setup()
    spec = importlib.util.spec_from_file_location("recipe_with_django", RECIPES / "with_django.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    dispatcher = Dispatcher(redis.url, sync=True)
    vars(module)["dispatcher"] = dispatcher
    with connection.schema_editor() as editor:
        editor.create_model(module.Order)
    yield module
    dispatcher.close()
    connection.close()


def test_django_dispatches_after_a_commit(shop: ModuleType, waiting: Waiting, customer: str) -> None:
    with transaction.atomic():
        order = shop.place_order(customer, 5)
        before = waiting(customer)
    assert (before, waiting(customer)) == ([], [{"order": order.pk, "total": 5}])


def test_django_saves_an_order_while_redis_is_away(
    shop: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, customer: str
) -> None:
    with Dispatcher(NOWHERE, sync=True) as nowhere:
        monkeypatch.setattr(shop, "dispatcher", nowhere)
        order = shop.place_order(customer, 5)
    assert [saved.pk for saved in shop.Order.objects.filter(customer=customer)] == [order.pk]
    assert "Error calling" in caplog.text


def test_django_dispatches_nothing_after_a_rollback(
    shop: ModuleType, waiting: Waiting, customer: str
) -> None:
    with pytest.raises(ValueError, match="costs something"):
        shop.place_order(customer, 0)
    assert waiting(customer) == []


@pytest.fixture
def database() -> Iterator[Any]:
    engine = create_engine("sqlite://")
    yield engine
    engine.dispose()


def test_sqlalchemy_dispatches_after_a_commit(
    recipe: Recipe, database: Any, waiting: Waiting, customer: str
) -> None:
    orders = recipe("with_sqlalchemy")
    orders.Base.metadata.create_all(database)
    with Session(database) as session:
        placed = [orders.place_order(session, customer, total).id for total in (5, 6)]
        before = waiting(customer)
        session.commit()
    expected = [{"order": id, "total": total} for id, total in zip(placed, (5, 6), strict=True)]
    assert (before, waiting(customer)) == ([], expected)


def test_sqlalchemy_dispatches_nothing_after_a_rollback(
    recipe: Recipe, database: Any, waiting: Waiting, customer: str
) -> None:
    orders = recipe("with_sqlalchemy")
    orders.Base.metadata.create_all(database)
    with Session(database) as session:
        orders.place_order(session, customer, 5)
        session.rollback()
        session.commit()
    assert waiting(customer) == []


def test_sqlalchemy_commits_while_redis_is_away_and_logs_that_nothing_was_sent(
    recipe: Recipe,
    database: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    customer: str,
) -> None:
    monkeypatch.setenv("MESA_URL", NOWHERE)
    orders = recipe("with_sqlalchemy")
    orders.Base.metadata.create_all(database)
    with Session(database) as session:
        orders.place_order(session, customer, 5)
        session.commit()
        assert session.query(orders.Order).filter_by(customer=customer).count() == 1
    assert "1 messages were not dispatched" in caplog.text


def test_a_task_that_runs_again_dispatches_once(recipe: Recipe, waiting: Waiting, customer: str) -> None:
    task, name = recipe("with_celery").tell, uuid4().hex
    for _ in range(2):
        task.apply(args=(customer, 7), task_id=name, throw=True)
    task.apply(args=(customer, 8), task_id=uuid4().hex, throw=True)
    assert waiting(customer) == [{"order": 7}, {"order": 8}]


def test_a_task_is_retried_without_an_answer(recipe: Recipe, waiting: Waiting, customer: str) -> None:
    """The reply to the first dispatch is lost after its effect; Celery retries."""
    module = recipe("with_celery")
    real, failures = module.dispatcher, [BackendUnavailable("cut off", maybe_sent=True)]

    class Flaky:
        def dispatch(self, *arguments: Any, **named: Any) -> Any:
            receipt = real.dispatch(*arguments, **named)
            if failures:
                raise failures.pop()
            return receipt

        def close(self) -> None:
            real.close()

    vars(module)["dispatcher"] = Flaky()
    module.tell.apply(args=(customer, 7)).get()
    assert (failures, waiting(customer)) == ([], [{"order": 7}])
