from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

import pytest

from mesa_ws import DispatchEvent, Message, RequestError, Server, Sync, User
from mesa_ws.backend.http.auth import check_key
from mesa_ws.backend.http.exchange import ApiEndpoint
from mesa_ws.backend.queries import check_cursor
from mesa_ws.backend.redis import Address
from mesa_ws.client.acknowledging import FilePositions
from mesa_ws.close import check_close
from mesa_ws.errors import InvalidRecipients
from mesa_ws.messages.envelope import prepare
from mesa_ws.messages.recipients import Recipients, check_id
from mesa_ws.messages.request import prepare_request
from mesa_ws.server.middleware import mesa1_middleware_key, middleware_key
from mesa_ws.settings import check_namespace, check_wire
from mesa_ws.text import plain
from mesa_ws.transports.client_socket import ServerAddress


class Color(str, Enum):  # noqa: UP042 - people have them, and they are formatted differently
    RED = "red"
    EVERYBODY = "*"


class Shade(StrEnum):
    RED = "red"


class Odd(str):
    def __str__(self) -> str:
        return "odd"

    def encode(self, *_: Any) -> bytes:
        return b"odd"


REDS = [Color.RED, Shade.RED, Odd("red")]


def member(text: str) -> Any:
    make: Any = Enum
    made: str = make("Named", {"MEMBER": text}, type=str).MEMBER
    return made


@pytest.mark.parametrize("red", REDS, ids=["enum", "strenum", "subclass"])
def test_an_instance_of_a_subclass_becomes_the_text_it_holds(red: str) -> None:
    assert (plain(red), type(plain(red))) == ("red", str)


@pytest.mark.parametrize("other", [None, 7, b"red", ["red"]])
def test_anything_else_stays(other: object) -> None:
    assert plain(other) is other


@pytest.mark.parametrize("red", REDS, ids=["enum", "strenum", "subclass"])
def test_what_names_somebody_is_plain(red: str) -> None:
    named = [
        check_id(red),
        User(red).id,
        User(red).data["id"],
        *Recipients.of([red]).ids,
        *Recipients.of("*", [red]).excluding,
        *prepare_request(red, Message()).recipients.ids,
        Message(0, None, red).type,
        check_namespace(red),
        Server(namespace=red).namespace,
        check_key(red),
    ]
    assert named == ["red"] * len(named)
    assert {type(each) for each in named} == {str}


def test_a_member_that_is_a_star_means_everybody_and_no_id() -> None:
    assert Recipients.of(Color.EVERYBODY).everybody
    assert Recipients.of([Color.EVERYBODY]).everybody
    with pytest.raises(InvalidRecipients, match="everybody"):
        check_id(Color.EVERYBODY)


def test_an_excluded_member_is_taken_out_of_ids() -> None:
    assert Recipients.of(["red", "blue"], [Color.RED]).ids == ("blue",)
    assert Recipients.of([Color.RED, "blue"], ["red"]).ids == ("blue",)


@pytest.mark.parametrize("red", REDS, ids=["enum", "strenum", "subclass"])
def test_a_key_names_the_same_message_as_its_text(red: str) -> None:
    named = [prepare(Message(), ["a"], idempotency_key=key).message_id for key in (red, "red")]
    assert named[0] == named[1]


@pytest.mark.parametrize("red", REDS, ids=["enum", "strenum", "subclass"])
def test_keys_of_middleware_are_plain(red: str) -> None:
    assert middleware_key(red, red, red) == middleware_key("red", "red", "red")
    assert mesa1_middleware_key(red, red, red) == mesa1_middleware_key("red", "red", "red")


def test_settings_hold_plain_text() -> None:
    ping, wire = Sync(proof=member("ping")).proof, check_wire(member("mesa1"))
    assert [(each, type(each)) for each in (ping, wire)] == [("ping", str), ("mesa1", str)]


def test_errors_and_events_hold_plain_text() -> None:
    error, event = RequestError(Odd("red"), Odd("red")), DispatchEvent(member("DISCONNECT_CLIENT"))
    assert {type(each) for each in (error.text, error.code, event.type)} == {str}


def test_the_reason_of_a_close_is_measured_as_it_is_sent() -> None:
    with pytest.raises(ValueError, match="124 bytes"):
        check_close(1000, Odd("x" * 124))


def test_a_cursor_is_plain() -> None:
    assert type(check_cursor(Odd("17"))) is str


def test_addresses_are_understood_as_their_text() -> None:
    redis = "redis://somewhere:1234/2"
    assert Address.of(member(redis)) == Address.of(redis)
    assert Address.of({"host": Color.RED}).label == "redis at red:6379"
    assert Address.of([1234, Odd("red")]).label == "redis at red:1234"
    assert ApiEndpoint.of(Odd("http://somewhere")).host == "somewhere"
    address = ServerAddress.of(member("ws://somewhere"), {Odd("x-name"): Color.RED}, None)
    assert (address.url, address.headers) == ("ws://somewhere", {"x-name": "red"})
    assert [type(each) for item in address.headers.items() for each in item] == [str, str]


async def test_a_file_is_found_by_its_text(tmp_path: Path) -> None:
    await FilePositions(member(str(tmp_path / "positions"))).save(b"saved")
    assert await FilePositions(tmp_path / "positions").load() == b"saved"
