"""Turns the frames on a node's channel into envelopes for the server."""

import logging
from collections.abc import Callable

from ..base import Receive
from .hint import Continuity, Hint, InvalidHint
from .roster import Roster

_log = logging.getLogger("mesa_ws.backend")


class Listener:
    """What a node does with each frame.

    Args:
        receive: gets the envelopes.
        roster: whom the node holds.
        on_strangers: called with ids that a hint names and the node does not hold, which others
            therefore believe to be here.
        on_gap: called when frames are missing before the one that came, or may be: the counter fell,
            so this is a Redis that forgot.

    Attributes:
        garbage: frames that were none.
        unheard: heartbeats since the last marker that came in.
    """

    def __init__(
        self,
        receive: Receive,
        roster: Roster,
        on_strangers: Callable[[list[str]], None],
        on_gap: Callable[[], None],
    ) -> None:
        self._receive = receive
        self._roster = roster
        self._on_strangers = on_strangers
        self._on_gap = on_gap
        self._continuity = Continuity()
        self._counter = 0
        self.garbage = 0
        self.unheard = 0

    @property
    def lost(self) -> int:
        """Hints that were published to this node and never came."""
        return self._continuity.lost

    def on_frame(self, frame: bytes) -> None:
        """Take one frame as it came."""
        try:
            hint = Hint.of(frame)
        except InvalidHint:
            self.garbage += 1
            _log.warning("ignored %d bytes on this node's channel that no Mesa sent", len(frame))
            return
        missing = self._continuity.passed(hint.head)
        if missing:
            _log.info(
                "a gap of %d on this node's channel: what is stored is read from Redis now, "
                "what was sent without sync did not arrive here",
                missing,
            )
        if missing or hint.head.counter < self._counter:
            self._on_gap()
        self._counter = hint.head.counter
        if hint.head.kind == "marker":
            self.unheard = 0
        else:
            self._deliver(hint)

    def _deliver(self, hint: Hint) -> None:
        envelope = hint.envelope
        try:
            self._receive(envelope)
        except Exception:  # noqa: BLE001  # whatever the server did, the next message counts
            _log.exception("message %r could not be delivered here", envelope.message_id)
        if envelope.kind == "connection":
            return
        strangers = self._roster.strangers(envelope.recipients.ids)
        if strangers:
            self._on_strangers(strangers)
