"""Dispatch what a Django transaction has committed, and nothing else."""

import os

from django.db import models, transaction

from mesa_ws import Dispatcher, Message

dispatcher = Dispatcher(os.environ.get("MESA_URL", "redis://localhost:6379"), sync=True)


class Order(models.Model):
    customer = models.CharField(max_length=64)
    total = models.IntegerField()

    class Meta:
        app_label = "shop"


def place_order(customer: str, total: int) -> Order:
    """Save an order, and tell its customer once that is certain."""
    with transaction.atomic():
        order = Order.objects.create(customer=customer, total=total)
        transaction.on_commit(lambda: tell(order), robust=True)
        if total <= 0:
            raise ValueError("an order costs something")
    return order


def tell(order: Order) -> None:
    message = Message(0, {"order": order.pk, "total": order.total}, "ORDER_PLACED")
    dispatcher.dispatch(message, [order.customer], idempotency_key=f"order-{order.pk}")
