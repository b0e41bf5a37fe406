"""Messages to the owner of an order."""

from mesa_ws import Message
from mesa_ws.contrib.django import dispatch_on_commit, dispatcher

from .models import Order


def tell(order: Order, key: str) -> None:
    """Tell the owner how an order is; by the same key only once."""
    dispatcher().dispatch(status_of(order), [str(order.owner_id)], idempotency_key=key)


def tell_on_commit(order: Order, key: str) -> None:
    """Tell the owner when the transaction is committed, and never of one that is rolled back."""
    dispatch_on_commit(status_of(order), [str(order.owner_id)], idempotency_key=key)


def status_of(order: Order) -> Message:
    return Message(0, {"order": order.pk, "status": order.status}, "STATUS_UPDATE")
