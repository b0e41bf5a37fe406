"""The last messages of a connection."""

import sys
import threading
from collections.abc import Iterator

import pytest

from mesa_ws.server.history import History


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("hasty_threads")
def test_what_was_sent_is_read_in_a_thread_while_more_is_sent() -> None:
    history, is_over = History(), threading.Event()

    def send() -> None:
        while not is_over.is_set():
            history.add_sent(b'{"op":0}')

    sender = threading.Thread(target=send)
    sender.start()
    try:
        assert all(len(history.sent) <= 100 for _ in range(500))
    finally:
        is_over.set()
        sender.join()
