"""What the API sends, and what users get of it."""

import time
from collections.abc import Iterator
from uuid import UUID

import jwt
import pytest
from api import app
from fastapi.testclient import TestClient
from realtime import authenticate
from tokens import SECRET

from mesa_ws import AsyncDispatcher, Dispatch, MemoryHub, Message, Server, testing
from mesa_ws.contrib.fastapi import dispatcher_of

NOTE = Message(0, {"from": "anna", "text": "hi"}, "NOTE")
NUMBER = UUID(int=1)


def token(user: str) -> str:
    return jwt.encode({"sub": user, "exp": time.time() + 600}, SECRET, "HS256")


@pytest.fixture
def api() -> Iterator[TestClient]:
    with TestClient(app, headers={"Authorization": f"Bearer {token('anna')}"}) as api:
        yield api
    app.dependency_overrides.clear()


@pytest.fixture
def dispatcher(
    async_recording_dispatcher: testing.AsyncRecordingDispatcher,
) -> testing.AsyncRecordingDispatcher:
    app.dependency_overrides[dispatcher_of] = lambda: async_recording_dispatcher
    return async_recording_dispatcher


def test_a_note_is_sent_once(api: TestClient, dispatcher: testing.AsyncRecordingDispatcher) -> None:
    dispatcher.online(["bob"])
    answer = api.post(f"/notes/{NUMBER}", json={"to": ["bob", "carl"], "text": "hi"})
    assert answer.json() == {"bob": True, "carl": False}
    assert dispatcher.dispatched == [Dispatch(NOTE, ("bob", "carl"), (), f"anna-{NUMBER}")]


def test_a_call_whose_outcome_is_unknown_may_be_repeated(
    api: TestClient, dispatcher: testing.AsyncRecordingDispatcher
) -> None:
    dispatcher.unsure()
    calls = [api.post(f"/notes/{NUMBER}", json={"to": ["bob"], "text": "hi"}) for _ in range(2)]
    assert [answer.status_code for answer in calls] == [503, 202]
    assert dispatcher.messages_to("bob") == [NOTE]


def test_a_user_gets_the_note(api: TestClient, memory_hub: MemoryHub) -> None:
    server = Server(memory_hub, namespace="shop", sync=True)
    server.authenticator(authenticate)
    app.dependency_overrides[dispatcher_of] = lambda: AsyncDispatcher(memory_hub, namespace="shop", sync=True)
    with testing.TestClient(server) as realtime, realtime.connect() as bob:
        bob.authenticate({"token": token("bob")})
        api.post(f"/notes/{NUMBER}", json={"to": ["bob"], "text": "hi"})
        assert bob.receive_all() == [NOTE]
