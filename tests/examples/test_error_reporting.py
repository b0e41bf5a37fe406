"""The recipe for error reporting, with a fake of the reporting library."""

import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mesa_ws import Client, Connection, Message, Server, User, serve
from tests.system.waiting import until

PROGRAM = Path(__file__).parents[2] / "examples/error_reporting/middleware.py"


class Scope:
    """The data that a scope of the real library accepts."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}

    def set_tag(self, key: str, value: str) -> None:
        self.told[key] = value

    def set_user(self, value: dict[str, Any] | None) -> None:
        self.told["user"] = value


class Sentry(ModuleType):
    """A fake of the two functions of the real library that the recipe calls."""

    def __init__(self) -> None:
        super().__init__("sentry_sdk")
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self.scope = Scope()

    @contextmanager
    def new_scope(self) -> Iterator[Scope]:
        self.scope = Scope()
        yield self.scope

    def capture_exception(self, error: BaseException) -> None:
        self.reports.append((repr(error), self.scope.told))


async def test_an_error_of_a_handler_is_reported_with_whose_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    sentry = Sentry()
    monkeypatch.setitem(sys.modules, "sentry_sdk", sentry)
    server: Server = runpy.run_path(str(PROGRAM))["server"]

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        return User(data["id"])

    @server.on_message
    async def fail(message: Message, connection: Connection) -> None:
        raise ValueError("broken")

    async with serve(server) as endpoint, Client(endpoint.url) as client:
        await client.send(Message(0, None, "ANONYMOUS"))
        await until(lambda: len(sentry.reports) == 1)
        await client.authenticate({"id": "alice"})
        await client.send(Message(0, None, "KNOWN"))
        await until(lambda: len(sentry.reports) == 2)
    node = {"mesa.node": "chat"}
    assert sentry.reports == [
        ("ValueError('broken')", node),
        ("ValueError('broken')", node | {"user": {"id": "alice"}}),
    ]
