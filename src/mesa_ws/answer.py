"""What handlers return, as messages."""

from .message import Message


def as_message(result: object, request: Message) -> Message:
    """What a handler returned as the message that answers `request`; data takes over its type."""
    return result if isinstance(result, Message) else Message(0, result, request.type)
