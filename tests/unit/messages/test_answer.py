"""What handlers return, as messages."""

from mesa_ws.messages.message import Message, as_message

REQUEST = Message(0, {"n": 1}, "SUM")


def test_data_takes_over_the_type_of_the_request() -> None:
    assert as_message(3, REQUEST) == Message(0, 3, "SUM")


def test_a_message_is_taken_as_it_is() -> None:
    message = Message(0, 3, "TOTAL")
    assert as_message(message, REQUEST) is message
