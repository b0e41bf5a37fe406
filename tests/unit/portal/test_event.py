"""Replies of threads that a portal has left behind."""

import asyncio
import warnings

import pytest

from mesa_ws.backend.inbox import InboxEvent, WaitingEvent
from mesa_ws.errors import BackendUnavailable
from mesa_ws.messages.envelope import Envelope
from mesa_ws.messages.message import Message
from mesa_ws.portal.event import PortalEvent

ANSWER = Message(0, None, "ANSWER")


def event_of(send: object) -> PortalEvent:
    letter = InboxEvent("node.1", 0, "1", "connection", None, "node", b"")
    return PortalEvent(WaitingEvent("1-0", 0.0, letter), 1, send)  # type: ignore[arg-type]


async def never(envelope: Envelope, node: str) -> bool:
    raise AssertionError("nothing is to be sent")


async def reply_in_thread(event: PortalEvent) -> object:
    return (await asyncio.gather(asyncio.to_thread(event.reply_blocking, ANSWER), return_exceptions=True))[0]


def test_a_reply_after_the_event_loop_has_ended_says_so() -> None:
    async def begin() -> PortalEvent:
        return event_of(never)

    event = asyncio.run(begin())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        error = asyncio.run(reply_in_thread(event))
    assert isinstance(error, BackendUnavailable)
    assert str(error) == "event.reply_blocking: the portal has stopped; nothing was sent"


async def test_a_reply_that_the_end_of_the_event_loop_cancels_says_so() -> None:
    async def cancelled(envelope: Envelope, node: str) -> bool:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.Event().wait()
        return True

    error = await reply_in_thread(event_of(cancelled))
    assert isinstance(error, BackendUnavailable)
    assert error.maybe_sent


async def test_what_fails_is_raised_in_the_thread() -> None:
    async def fails(envelope: Envelope, node: str) -> bool:
        raise RuntimeError("a bug")

    assert str(await reply_in_thread(event_of(fails))) == "a bug"


@pytest.mark.parametrize("lives", [True, False])
async def test_whether_the_server_lives_is_returned(lives: bool) -> None:
    async def send(envelope: Envelope, node: str) -> bool:
        return lives

    assert await asyncio.to_thread(event_of(send).reply_blocking, ANSWER) is lives
