"""`mesa_ws.contrib.celery`: each step of a task is sent once, however often the task runs."""

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from mesa_ws import BackendUnavailable, Dispatcher, InvalidInput, MemoryHub, Message
from mesa_ws.contrib.celery import DispatchingTask


class Cut:
    """A dispatcher whose first answer is lost, after its effect."""

    def __init__(self) -> None:
        self.receipts: list[Any] = []
        self._to = Dispatcher(MemoryHub(), sync=True)

    def dispatch(self, *args: Any, **options: Any) -> Any:
        self.receipts.append(self._to.dispatch(*args, **options))
        if len(self.receipts) == 1:
            raise BackendUnavailable("cut off", maybe_sent=True)
        return self.receipts[-1]


@pytest.fixture
def shop() -> Any:
    app = Celery("shop", broker="memory://", set_as_current=False)

    class ShopTask(DispatchingTask):
        dispatcher = Cut()  # type: ignore[assignment]

    @app.task(base=ShopTask, bind=True)  # type: ignore[untyped-decorator]
    def ship(self: Any, owner: str) -> None:
        for step in ("packed", "shipped"):
            self.dispatch(Message(0, step, "STATUS_UPDATE"), [owner], step=step)

    return SimpleNamespace(ship=ship, dispatcher=ShopTask.dispatcher)


def test_a_task_runs_again_when_the_backend_is_away_and_sends_each_step_once(shop: Any) -> None:
    shop.ship.apply(args=("anna",), task_id="t1").get()
    positions = [receipt.deliveries["anna"].position.sequence for receipt in shop.dispatcher.receipts]
    assert positions == [1, 1, 2]
    shop.ship.apply(args=("anna",), task_id="t1").get()
    shop.ship.apply(args=("anna",), task_id="t2").get()
    positions = [receipt.deliveries["anna"].position.sequence for receipt in shop.dispatcher.receipts]
    assert positions == [1, 1, 2, 1, 2, 3, 4]


def test_a_task_waits_longer_and_longer_and_is_left_to_another_worker(shop: Any) -> None:
    task = shop.ship
    assert (task.acks_late, task.reject_on_worker_lost) == (True, True)
    assert (task.max_retries, task.retry_backoff, task.retry_backoff_max) == (20, True, 600)


def test_a_function_without_a_task_has_no_name_for_its_messages(shop: Any) -> None:
    with pytest.raises(InvalidInput, match="expected a task with an id, got a call of its function"):
        shop.ship("anna")
