"""The chat as a whole: the server, the portal and its dispatcher at one hub."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import worker
from rooms import Rooms
from server import authenticate

from mesa_ws import Dispatcher, MemoryHub, Message, Portal, Server
from mesa_ws.testing import TestClient


@pytest.fixture
def chat(memory_hub: MemoryHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(worker, "rooms", Rooms(str(tmp_path / "chat.db")))
    monkeypatch.setattr(worker, "dispatcher", Dispatcher(memory_hub, namespace="chat", sync=True))
    portal = Portal(memory_hub, namespace="chat")
    portal.on_message("JOIN")(worker.join)
    portal.on_message("SAY")(worker.say)
    server = Server(memory_hub, namespace="chat", portals=True)
    server.authenticator(authenticate)
    with TestClient(server, portal) as chat:
        yield chat


def test_everybody_in_the_room_gets_what_one_says(chat: TestClient) -> None:
    with chat.connect() as anna, chat.connect() as bob:
        anna.authenticate({"id": "anna"})
        bob.authenticate({"id": "bob"})
        anna.send(Message(0, {"room": "tea"}, "JOIN"))
        assert anna.receive_all() == [
            Message(0, {"room": "tea", "id": "anna"}, "JOINED"),
            Message(0, [], "HISTORY"),
        ]
        bob.send(Message(0, {"room": "tea"}, "JOIN"))
        assert bob.receive_all() == [
            Message(0, {"room": "tea", "id": "bob"}, "JOINED"),
            Message(0, [], "HISTORY"),
        ]
        anna.send(Message(0, {"room": "tea", "text": "hi"}, "SAY"))
        anna.send(Message(0, {"room": "tea", "text": "all"}, "SAY"))
        said = [Message(0, {"room": "tea", "author": "anna", "text": text}, "SAID") for text in ("hi", "all")]
        assert bob.receive_all() == said
        assert anna.receive_all() == [Message(0, {"room": "tea", "id": "bob"}, "JOINED"), *said]


def test_a_member_who_was_away_gets_what_was_said(chat: TestClient) -> None:
    with chat.connect() as anna, chat.connect() as bob:
        anna.authenticate({"id": "anna"})
        bob.authenticate({"id": "bob"})
        for client in (anna, bob):
            client.send(Message(0, {"room": "tea"}, "JOIN"))
            client.receive_all()
        bob.cut()
        anna.send(Message(0, {"room": "tea", "text": "hi"}, "SAY"))
        assert bob.receive_all() == []
        chat.advance(60)
        assert [message.data["text"] for message in bob.receive_all()] == ["hi"]
