"""Work that takes longer than a request, and tells how far it is."""

from celery import shared_task

from mesa_ws import BackendUnavailable

from . import realtime
from .models import Order

STEPS = ("packed", "handed over", "shipped")


@shared_task(bind=True, acks_late=True, autoretry_for=(BackendUnavailable,), max_retries=10)
def ship(self, number):
    """Ship an order; when Celery runs it twice, each message is still sent once."""
    order = Order.objects.get(pk=number)
    for status in STEPS:
        order.status = status
        order.save(update_fields=["status"])
        realtime.tell(order, f"{self.request.id}-{status}")
