"""What the task sends, also when it runs again."""

from collections.abc import Iterator

import pytest
from tasks import ShopTask, ship

from mesa_ws import Message
from mesa_ws.testing import RecordingDispatcher

pytest_plugins = ["mesa_ws.testing.plugin"]

STATUSES = ["packed", "handed over", "shipped"]
UPDATES = [Message(0, {"order": 1, "status": status}, "STATUS_UPDATE") for status in STATUSES]


@pytest.fixture
def dispatcher(
    recording_dispatcher: RecordingDispatcher, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RecordingDispatcher]:
    monkeypatch.setattr(ShopTask, "dispatcher", recording_dispatcher)
    return recording_dispatcher


def test_the_owner_follows_the_order(dispatcher: RecordingDispatcher) -> None:
    ship.apply(args=[1, "anna"])
    assert dispatcher.messages_to("anna") == UPDATES


def test_a_task_that_runs_again_sends_no_message_twice(dispatcher: RecordingDispatcher) -> None:
    dispatcher.unavailable()
    dispatcher.unsure()
    assert ship.apply(args=[1, "anna"]).successful()
    assert dispatcher.messages_to("anna") == UPDATES
