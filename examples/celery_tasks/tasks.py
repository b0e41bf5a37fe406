"""A task that takes longer than a request, and tells a user how far it is."""

import os
from typing import Any

from celery import Celery

from mesa_ws import Dispatcher, Message
from mesa_ws.contrib.celery import DispatchingTask

REDIS = os.environ.get("REDIS", "redis://localhost:6379")

app = Celery("shop", broker=REDIS)


class ShopTask(DispatchingTask):
    dispatcher = Dispatcher(REDIS, namespace="shop", sync=True)


@app.task(base=ShopTask, bind=True)
def ship(self: Any, order: int, owner: str) -> None:
    """Ship an order; when Celery runs it twice, each message is still sent once."""
    for status in ("packed", "handed over", "shipped"):
        message = Message(0, {"order": order, "status": status}, "STATUS_UPDATE")
        self.dispatch(message, [owner], step=status)
