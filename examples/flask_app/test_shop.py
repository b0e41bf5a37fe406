"""What the application sends, and what it answers."""

import pytest
from flask.testing import FlaskClient
from shop import create_app

from mesa_ws import Dispatch, Message
from mesa_ws.testing import RecordingDispatcher

pytest_plugins = ["mesa_ws.testing.plugin"]

SHIPPED = Message(0, {"order": "7", "status": "shipped"}, "STATUS_UPDATE")


@pytest.fixture
def shop(recording_dispatcher: RecordingDispatcher) -> FlaskClient:
    return create_app(MESA=recording_dispatcher).test_client()


def test_the_owner_is_told_once(shop: FlaskClient, recording_dispatcher: RecordingDispatcher) -> None:
    recording_dispatcher.online(["anna"])
    answer = shop.post("/orders/7/ship", data={"owner": "anna"})
    assert (answer.status_code, answer.json) == (202, {"sent": True, "online": True})
    assert recording_dispatcher.dispatched == [Dispatch(SHIPPED, ("anna",), (), "7-shipped")]


def test_a_call_whose_outcome_is_unknown_may_be_repeated(
    shop: FlaskClient, recording_dispatcher: RecordingDispatcher
) -> None:
    recording_dispatcher.unsure()
    calls = [shop.post("/orders/7/ship", data={"owner": "anna"}) for _ in range(2)]
    assert [answer.status_code for answer in calls] == [503, 202]
    assert recording_dispatcher.messages_to("anna") == [SHIPPED]
