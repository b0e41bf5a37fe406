"""Which hooks a middleware has, in which order they are called, and how its keys are named."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from mesa_ws import Middleware, Server
from mesa_ws.errors import InvalidInput, InvalidSettings
from mesa_ws.messages.message import Message
from mesa_ws.server import notifications
from mesa_ws.server.connection import Connection
from mesa_ws.server.middleware import hooks_of, mesa1_middleware_key, middleware_key
from mesa_ws.server.registrations import HandlerList, Handlers


class Counting(Middleware):
    def __init__(self) -> None:
        self.count = 0

    async def on_connection(self, connection: Connection) -> None:
        self.count += 1


class Naming(Counting):
    def __init__(self, name: str = "mine", *more: object, **most: object) -> None:
        super().__init__()
        self.name = name


class Knowing(Counting):
    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server


def every_hook() -> set[str]:
    return {name for name in vars(Middleware) if name.startswith(("on_", "before_"))}


def test_so_many_messages_of_its_own_are_known_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "OWN", 2)
    told, handlers = list[bool](), Handlers(threads=1)
    handlers.sent.append((lambda message, connections, from_this_node: told.append(from_this_node), False))
    some = notifications.Notifications(handlers, asyncio.ensure_future)
    for message_id in ("a", "b", "c"):
        some.own(message_id)
    for message_id in ("a", "b", "c", "of another"):
        some.delivered(b'{"op":0}', message_id, ["a connection"])
    assert told == [False, True, True, False]


def test_the_applications_handlers_come_before_those_of_middleware() -> None:
    calls: HandlerList[str] = HandlerList()
    calls.append_last("first hook")
    calls.append("first handler")
    calls.append_last("second hook")
    calls.append("second handler")
    assert calls == ["first handler", "second handler", "first hook", "second hook"]


def test_a_hook_that_is_not_overridden_is_not_called() -> None:
    assert hooks_of(Middleware()) == {}
    assert set(hooks_of(Counting())) == {"on_connection"}


@pytest.mark.parametrize("name", sorted(every_hook()))
def test_every_hook_that_is_documented_is_found(name: str) -> None:
    assert set(hooks_of(SimpleNamespace(**{name: lambda *_: None}))) == {name}


def test_an_instance_is_used_as_it_is() -> None:
    middleware = Counting()
    assert Server().use(middleware) is middleware


def test_a_class_is_made_with_the_server_if_it_needs_one() -> None:
    server = Server()
    assert isinstance(server.use(Counting), Counting)
    assert server.use(Naming).name == "mine"
    assert server.use(Knowing).server is server


def test_a_function_makes_it_as_in_1x() -> None:
    server = Server()
    assert server.use(lambda given: SimpleNamespace(on_stop=given.run)).on_stop == server.run


@pytest.mark.parametrize("given", [None, 5, Middleware(), Middleware, object(), lambda server: None])
def test_what_has_no_hook_is_refused(given: object) -> None:
    with pytest.raises(InvalidSettings, match="middleware: expected a class, a function or an object"):
        Server().use(given)


def test_a_hook_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(InvalidSettings, match=r"middleware\.on_connection: expected a function"):
        Server().use(SimpleNamespace(on_connection=5))


def test_a_before_send_that_has_to_be_waited_for_is_refused() -> None:
    async def before_send(message: Message, connection: Connection | None) -> Message:
        return message

    with pytest.raises(InvalidSettings, match=r"before_send: expected a `def`"):
        Server().use(SimpleNamespace(before_send=before_send))


@pytest.mark.parametrize("name", ["on_conection", "onConnection", "before_sending"])
def test_a_misspelled_hook_is_warned_of(name: str, caplog: pytest.LogCaptureFixture) -> None:
    misspelled = type("Misspelled", (Counting,), {name: lambda self: None})
    with caplog.at_level(logging.WARNING, "mesa_ws.server"):
        Server().use(misspelled)
    assert f"there is no hook {name}" in caplog.text
    assert "on_connection, " in caplog.text


@pytest.mark.parametrize(
    ("namespace", "parts", "key"),
    [
        (None, (), "mesa:{}:mw:metrics"),
        ("api", (), "mesa:{api}:mw:metrics"),
        ("api", ("seen", "alice:1"), "mesa:{api}:mw:metrics:seen:alice:1"),
    ],
)
def test_a_key_names_namespace_middleware_and_what_it_is_for(
    namespace: str | None, parts: tuple[str, ...], key: str
) -> None:
    assert middleware_key(namespace, "metrics", *parts) == key
    assert Server(namespace=namespace).middleware_key("metrics", *parts) == key


@pytest.mark.parametrize(
    ("namespace", "parts", "key"),
    [
        (None, ("unread",), "unread_mw-metrics"),
        ("api", ("unread",), "unread_mw-metrics_api"),
        ("api", ("unread", "alice"), "unread:alice_mw-metrics_api"),
    ],
)
def test_a_key_of_the_1x_wire_is_what_1x_names_it(
    namespace: str | None, parts: tuple[str, ...], key: str
) -> None:
    assert mesa1_middleware_key(namespace, "metrics", *parts) == key
    server = Server("redis://localhost:1", namespace=namespace, wire="mesa1")
    assert server.middleware_key("metrics", *parts) == key


@pytest.mark.parametrize("given", [("a",), ("a b", "c"), ("a", ""), ("a", "c", "")])
def test_a_key_of_the_1x_wire_needs_a_name_and_a_purpose(given: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match="expected"):
        mesa1_middleware_key(None, *given)


@pytest.mark.parametrize(
    "given", [("",), ("a b",), ("a:b",), ("x" * 65,), (5,), ("a", ""), ("a", 5), ("a\n",)]
)
def test_a_key_that_could_be_anothers_is_refused(given: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidInput, match="expected"):
        middleware_key(None, *given)
