"""Objects that drive the genuine clients of the npm packages."""

import json
import os
import subprocess
import threading
from collections.abc import Mapping
from typing import Any, Self

from .npm_packages import NPM, modules, node

FLAVOURS = ("@cryb/mesa", "mesa-js-client")
LIMIT = 30.0
"""Seconds after which a waiting test fails."""

Event = Mapping[str, Any]


class Driver:
    """A Node process with genuine clients, and its reports."""

    def __init__(self) -> None:
        environment = os.environ | {"NODE_PATH": str(modules(NPM / "package.json"))}
        self._process = subprocess.Popen(
            [node(), str(NPM / "driver.js")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=environment,
        )
        self._events: list[Event] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, name="driver")
        self._reader.start()
        self._opened = 0

    def open(self, flavour: str, url: str) -> "GenuineClient":
        """Make a client, and wait until it is connected."""
        self._opened += 1
        client = GenuineClient(self, f"c{self._opened}")
        self.command(do="open", client=client.name, flavour=flavour, url=url)
        client.wait("connected")
        client.wait("received")
        return client

    def command(self, **command: Any) -> None:
        """Send a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")

    def events(self, client: str | None) -> list[Event]:
        """Return the reports about `client` so far; about None: uncaught errors."""
        with self._news:
            return [event for event in self._events if event["client"] == client]

    def wait(self, client: str, event: str, count: int, **members: Any) -> list[Event]:
        """Wait until `client` has reported `count` events of a name with these members."""
        found: list[Event] = []

        def is_there() -> bool:
            found[:] = [
                seen
                for seen in self._events
                if seen["client"] == client and seen["event"] == event and members.items() <= seen.items()
            ]
            return len(found) >= count

        with self._news:
            if not self._news.wait_for(is_there, LIMIT):
                shown = "\n".join(str(seen) for seen in self._events if seen["client"] in {client, None})
                raise AssertionError(f"waited {LIMIT:g} s for {count} x {event} {members}, saw\n{shown}")
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._reader.join(LIMIT)
        with self._process:
            self._process.wait(LIMIT)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self._events.append(json.loads(line))
                self._news.notify_all()


class GenuineClient:
    """One client. Events are named as in `driver.js`."""

    def __init__(self, driver: Driver, name: str) -> None:
        self._driver = driver
        self.name = name

    def wait(self, event: str, count: int = 1, **members: Any) -> list[Event]:
        """Wait for `count` events with these members; return all of them."""
        return self._driver.wait(self.name, event, count, **members)

    def authenticate(self, id: str, logins: int = 1) -> Any:
        """Log in for the `logins`-th time; return the user as the application receives it."""
        self._driver.command(do="authenticate", client=self.name, data={"id": id})
        return self.wait("user", logins)[-1].get("user")

    def authenticate_by_token(self, claims: Mapping[str, Any], secret: str) -> Any:
        """Log in with a token that `jsonwebtoken` signs; return the user as the application receives it."""
        self._driver.command(do="token", client=self.name, claims=claims, secret=secret)
        return self.wait("user")[-1].get("user")

    def refused(self, id: str) -> Event:
        """Try to log in; return the disconnection."""
        self._driver.command(do="authenticate", client=self.name, data={"id": id})
        return self.wait("disconnected")[0]

    def send(self, data: Any, type: str) -> None:
        """Send a message."""
        self._driver.command(do="send", client=self.name, data=data, type=type)

    def until(self, type: str) -> list[Event]:
        """Wait for a message of this type; return all messages so far."""
        self.wait("message", type=type)
        return self.all("message")

    def all(self, event: str) -> list[Event]:
        """Return the events of a name so far."""
        return [seen for seen in self._driver.events(self.name) if seen["event"] == event]

    def frames(self, way: str = "received") -> list[str]:
        """Return the text of frames `received` or `sent`, without heartbeats and their answers."""
        frames = [seen["text"] for seen in self.all(way)]
        return [text for text in frames if not text.startswith(('{"op":1,', '{"op":11,'))]

    def close(self) -> None:
        """Disconnect for good."""
        self._driver.command(do="close", client=self.name)
