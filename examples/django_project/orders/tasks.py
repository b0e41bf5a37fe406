"""Work that takes longer than a request, and tells how far it is."""

from celery import shared_task

from mesa_ws.contrib.celery import DispatchingTask
from mesa_ws.contrib.django import dispatcher

from . import realtime
from .models import Order

STEPS = ("packed", "handed over", "shipped")


class OrderTask(DispatchingTask):
    dispatcher = dispatcher()


@shared_task(base=OrderTask, bind=True)
def ship(self, number):
    """Ship an order; when Celery runs it twice, each message is still sent once."""
    order = Order.objects.get(pk=number)
    for status in STEPS:
        order.status = status
        order.save(update_fields=["status"])
        self.dispatch(realtime.status_of(order), [str(order.owner_id)], step=status)
