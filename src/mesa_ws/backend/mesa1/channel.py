"""Channels of a node: reads payloads and passes their envelopes to the server."""

import logging
from collections.abc import Callable

from ...concurrency.limited_log import LimitedLog
from ...messages.envelope import Envelope
from ..base import Receive
from .keys import Mesa1Keys
from .payloads import InvalidPayload, read_payload, read_reply

_log = logging.getLogger("mesa_ws.backend")


class Mesa1Channel:
    """The channel of all messages, and the own one of a node.

    Args:
        receive: gets the envelopes.
        keys: names of the namespace.
        node: name of the node.
        on_failure: called when `receive` raised.

    Attributes:
        garbage: number of payloads that could not be read.
        unheard: heartbeats since the last empty payload of the node itself that arrived.
        log: gets what foreign bytes cause.
    """

    def __init__(self, receive: Receive, keys: Mesa1Keys, node: str, on_failure: Callable[[], None]) -> None:
        self._receive = receive
        self._keys = keys
        self._node = node
        self._on_failure = on_failure
        self.log = LimitedLog(_log)
        self.garbage = 0
        self.unheard = 0

    def on_own(self, payload: bytes) -> None:
        """Handle a payload of the node's own channel: its own empty one, or a portal's reply."""
        if not payload:
            self.unheard = 0
        else:
            self._deliver(payload, read_reply, self._keys.channel(self._node))

    def on_frame(self, payload: bytes) -> None:
        """Handle a message for all servers."""
        self._deliver(payload, read_payload, self._keys.messages)

    def _deliver(self, payload: bytes, read: Callable[[bytes], Envelope | None], channel: str) -> None:
        try:
            envelope = read(payload)
        except InvalidPayload as error:
            self.garbage += 1
            self.log.warning("ignored %d bytes on %r: %s", len(payload), channel, error, kind=channel)
            return
        try:
            if envelope is not None:
                self._receive(envelope)
        except Exception:  # whatever the server did, the next message counts
            self.log.exception("a message could not be delivered here; stored messages are read again")
            self._on_failure()
