"""Dispatch from a Celery task that may run more than once."""

import os

from celery import Celery

from mesa_ws import BackendUnavailable, Dispatcher, Message

app = Celery("shop")
dispatcher = Dispatcher(os.environ.get("MESA_URL", "redis://localhost:6379"), sync=True)


@app.task(bind=True, autoretry_for=(BackendUnavailable,), max_retries=10)
def tell(self, customer, order):
    """Tell a customer. Celery tries again after 180 s, under the same id of the task."""
    message = Message(0, {"order": order}, "ORDER_SHIPPED")
    dispatcher.dispatch(message, [customer], idempotency_key=self.request.id)
