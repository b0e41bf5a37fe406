"""`manage.py test`: what views and tasks send, and when."""

import json
from typing import Any
from unittest import mock

from django.conf import settings
from django.contrib.auth.models import User
from django.test import TestCase, override_settings

from mesa_ws import Dispatch, Message
from mesa_ws.contrib.django import token_for
from mesa_ws.testing import RecordingDispatcher
from orders import tasks
from orders.models import Order


class OrdersTest(TestCase):
    def setUp(self) -> None:
        self.anna = User.objects.create(username="anna")
        self.dispatcher = RecordingDispatcher(sync=True)
        mesa = {**settings.MESA, "DISPATCHER": self.dispatcher}
        self.enterContext(override_settings(MESA=mesa))
        self.enterContext(mock.patch.object(tasks.OrderTask, "dispatcher", self.dispatcher))

    def place(self, price: int) -> Any:
        headers = {"Authorization": f"Bearer {token_for(self.anna)}"}
        wanted = json.dumps({"item": "tea", "price": price})
        with self.captureOnCommitCallbacks(execute=True):
            return self.client.post("/orders", wanted, "application/json", headers=headers)

    def test_the_owner_gets_one_message_of_an_order_that_was_placed(self) -> None:
        number = self.place(price=3).json()["order"]
        placed = Message(0, {"order": number, "status": "placed"}, "STATUS_UPDATE")
        expected = Dispatch(placed, (str(self.anna.pk),), idempotency_key=f"placed-{number}")
        assert self.dispatcher.dispatched == [expected]

    def test_nothing_is_sent_of_an_order_that_was_rolled_back(self) -> None:
        assert self.place(price=0).status_code == 400
        assert self.dispatcher.dispatched == []

    def test_an_order_is_placed_although_mesa_is_unavailable(self) -> None:
        self.dispatcher.unavailable()
        assert self.place(price=3).status_code == 201
        assert self.dispatcher.dispatched == []

    def test_the_owner_follows_an_order_that_is_shipped(self) -> None:
        order = Order.objects.create(owner=self.anna, item="tea", price=3)
        self.dispatcher.unsure()
        tasks.ship.apply(args=[order.pk])
        statuses = [message.data["status"] for message in self.dispatcher.messages_to(str(self.anna.pk))]
        assert statuses == ["packed", "handed over", "shipped"]
