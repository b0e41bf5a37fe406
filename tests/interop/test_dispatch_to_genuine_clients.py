"""Dispatches of our blocking Dispatcher over Redis, through two servers, to genuine clients."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from uuid import uuid4

import pytest

from mesa_ws import Dispatcher, DispatchEvent, Message
from tests.redis_server import RedisServer

from .conftest import Opening
from .genuine import GenuineClient
from .served import ServerProcess
from .server import HELLO

Ids = tuple[str, str, str]

GREETING = Message(0, {"text": "é漢😀"}, "GREETING")
GREETING_FRAME = '{"op":0,"d":{"text":"é漢😀"},"t":"GREETING"}'
LAST = Message(0, {}, "LAST")
LAST_FRAME = '{"op":0,"d":{},"t":"LAST"}'


@pytest.fixture(scope="module")
def namespace() -> str:
    """A namespace that no other module uses."""
    return f"interop-{uuid4().hex}"


@pytest.fixture(scope="module")
def replicas(redis_server: RedisServer, namespace: str) -> Iterator[Sequence[ServerProcess]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(ServerProcess("--redis", redis_server.url, "--namespace", namespace))
            for _ in range(2)
        ]


@pytest.fixture(scope="module")
def dispatcher(redis_server: RedisServer, namespace: str) -> Iterator[Dispatcher]:
    with Dispatcher(redis_server.url, namespace=namespace) as dispatcher:
        yield dispatcher


@pytest.fixture
def ids() -> Ids:
    """New ids for each test."""
    one, two, three = (uuid4().hex for _ in range(3))
    return one, two, three


class Audience:
    """Genuine clients of one flavour, spread over the servers."""

    def __init__(self, open_client: Opening, flavour: str, replicas: Sequence[ServerProcess]) -> None:
        self._open_client = open_client
        self._flavour = flavour
        self._replicas = replicas
        self._size = 0

    def anonymous(self) -> GenuineClient:
        """Connect a client to the next server."""
        self._size += 1
        return self._open_client(self._flavour, self._replicas[self._size % len(self._replicas)].url)

    def login(self, id: str) -> GenuineClient:
        """Connect a client to the next server and authenticate it."""
        client = self.anonymous()
        client.authenticate(id)
        return client

    def received(self, client: GenuineClient) -> list[str]:
        """Return the frames of the application that `client` has received, up to the last one."""
        client.until("LAST")
        return [text for text in client.frames() if not text.startswith(('{"op":10,', '{"op":22,'))]


@pytest.fixture
def audience(open_client: Opening, flavour: str, replicas: Sequence[ServerProcess]) -> Audience:
    return Audience(open_client, flavour, replicas)


def test_a_message_to_ids_reaches_those_alone(audience: Audience, dispatcher: Dispatcher, ids: Ids) -> None:
    here, there, other, anonymous = *map(audience.login, ids), audience.anonymous()
    receipt = dispatcher.dispatch(GREETING, [ids[0], ids[1], "unknown"])
    dispatcher.dispatch(LAST)
    assert [audience.received(client) for client in (here, there)] == [[GREETING_FRAME, LAST_FRAME]] * 2
    assert [audience.received(client) for client in (other, anonymous)] == [[LAST_FRAME]] * 2
    assert {id: delivery.online for id, delivery in receipt.deliveries.items()} == {
        ids[0]: 1,
        ids[1]: 1,
        "unknown": 0,
    }


def test_a_message_to_everybody_reaches_every_connection(
    audience: Audience, dispatcher: Dispatcher, ids: Ids
) -> None:
    clients = [audience.login(ids[0]), audience.login(ids[1]), audience.anonymous(), audience.anonymous()]
    dispatcher.dispatch(GREETING, ["*"])
    dispatcher.dispatch(LAST)
    assert [audience.received(client) for client in clients] == [[GREETING_FRAME, LAST_FRAME]] * 4


@pytest.mark.parametrize("everybody", [False, True], ids=["ids", "everybody"])
def test_an_excluded_id_receives_nothing(
    audience: Audience, dispatcher: Dispatcher, ids: Ids, everybody: bool
) -> None:
    author, reader = audience.login(ids[0]), audience.login(ids[1])
    dispatcher.dispatch(GREETING, ["*"] if everybody else ids, [ids[0]])
    dispatcher.dispatch(LAST)
    assert audience.received(reader) == [GREETING_FRAME, LAST_FRAME]
    assert audience.received(author) == [LAST_FRAME]


def test_both_devices_of_an_id_receive_once_each(
    audience: Audience, dispatcher: Dispatcher, ids: Ids
) -> None:
    devices = [audience.login(ids[0]), audience.login(ids[0])]
    dispatcher.dispatch(GREETING, [ids[0]])
    dispatcher.dispatch(LAST)
    assert [audience.received(device) for device in devices] == [[GREETING_FRAME, LAST_FRAME]] * 2


def test_opcode_and_missing_type_arrive_as_they_are(
    audience: Audience, dispatcher: Dispatcher, ids: Ids
) -> None:
    client = audience.login(ids[0])
    dispatcher.dispatch(Message(99, [1, None]), [ids[0]])
    dispatcher.dispatch(LAST, [ids[0]])
    assert audience.received(client) == ['{"op":99,"d":[1,null]}', LAST_FRAME]
    seen = client.all("message")[0]
    assert (seen["opcode"], seen["data"], seen.get("type")) == (99, [1, None], None)


def test_disconnect_client_closes_every_device_with_1000(
    audience: Audience, dispatcher: Dispatcher, ids: Ids
) -> None:
    devices, other = [audience.login(ids[0]), audience.login(ids[0])], audience.login(ids[1])
    dispatcher.dispatch(DispatchEvent("DISCONNECT_CLIENT"), [ids[0]])
    for device in devices:
        closed = device.wait("disconnected")[0]
        assert (closed["code"], closed["reason"], closed["willAttemptReconnect"]) == (1000, "", True)
    dispatcher.dispatch(LAST, [ids[1]])
    assert audience.received(other) == [LAST_FRAME]
    assert other.all("disconnected") == []


def test_a_disconnected_client_comes_back_as_announced_and_works_again(
    audience: Audience, dispatcher: Dispatcher, ids: Ids
) -> None:
    client = audience.login(ids[0])
    assert client.frames()[0] == HELLO
    dispatcher.dispatch(DispatchEvent("DISCONNECT_CLIENT"), [ids[0]])
    client.wait("disconnected")
    again = client.wait("connected", 2)[1]
    assert (again["isInitialConnection"], again["isAutomaticReconnection"]) == (False, True)
    client.wait("received", 2, text=HELLO)
    assert client.authenticate(ids[0], logins=2) == {"id": ids[0]}
    dispatcher.dispatch(GREETING, [ids[0]])
    dispatcher.dispatch(LAST, [ids[0]])
    assert audience.received(client) == [GREETING_FRAME, LAST_FRAME]
