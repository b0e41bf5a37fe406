"""`manage.py portal`: handles what users send, with the ORM. Run as many as you like."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import transaction
from django.db.models import F

from mesa_ws import Portal, PortalEvent
from mesa_ws.contrib.django import database
from orders.models import HandledEvent, Order
from orders.realtime import tell

portal = Portal(settings.MESA["URL"], namespace=settings.MESA["NAMESPACE"])


@portal.on_message("CONFIRM")
@database()
def confirm(event: PortalEvent) -> None:
    """An owner confirms an order; handled twice, it is confirmed once."""
    if event.id is None or event.message is None:
        return
    order = Order.objects.filter(pk=event.message.data["order"], owner_id=event.id)
    with transaction.atomic():
        if HandledEvent.objects.get_or_create(key=event.key)[1]:
            order.update(status="confirmed", confirmations=F("confirmations") + 1)
    for changed in order:
        tell(changed, event.key)


class Command(BaseCommand):
    help = "Handle what users send."

    def handle(self, *_: Any, **__: Any) -> None:
        portal.run(lambda: print("portal", portal.portal_id, flush=True))
