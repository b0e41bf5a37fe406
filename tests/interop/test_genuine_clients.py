"""The genuine clients of the npm packages against a single server."""

from mesa_ws import Server, User

from .conftest import Opening
from .genuine import FLAVOURS
from .served import ServerProcess, served
from .server import HEARTBEAT, HELLO


def test_connects_as_for_the_first_time(server: ServerProcess, open_client: Opening, flavour: str) -> None:
    client = open_client(flavour, server.url)
    assert client.frames() == [HELLO]
    [connected] = client.all("connected")
    assert connected.items() >= {
        ("isInitialConnection", True),
        ("isInitialSessionConnection", True),
        ("isAutomaticReconnection", False),
    }


def test_authenticates_and_gets_its_user_object(
    server: ServerProcess, open_client: Opening, flavour: str
) -> None:
    client = open_client(flavour, server.url)
    assert client.authenticate("7") == {"id": "7"}
    assert client.frames("sent") == ['{"op":2,"d":{"id":"7","shouldSync":true}}']
    assert client.frames() == [HELLO, '{"op":22,"d":{"id":"7"}}']


def test_gets_answers_to_ping_and_echo(server: ServerProcess, open_client: Opening, flavour: str) -> None:
    client = open_client(flavour, server.url)
    client.send({}, "PING")
    client.send({"n": 1, "s": "é漢😀"}, "ECHO")
    [pong, echo] = client.until("ECHO")
    assert (pong["opcode"], pong["data"], pong["type"]) == (0, {}, "PONG")
    assert (echo["opcode"], echo["data"], echo["type"]) == (0, {"n": 1, "s": "é漢😀"}, "ECHO")
    assert client.frames()[1:] == [
        '{"op":0,"d":{},"t":"PONG"}',
        '{"op":0,"d":{"n":1,"s":"é漢😀"},"t":"ECHO"}',
    ]


def test_receives_a_refusal_as_1008(server: ServerProcess, open_client: Opening, flavour: str) -> None:
    client = open_client(flavour, server.url)
    disconnected = client.refused("bad")
    assert (disconnected["code"], disconnected["reason"]) == (1008, "")
    assert client.frames() == [HELLO]


def test_keep_their_connections_by_answering_heartbeats(server: ServerProcess, open_client: Opening) -> None:
    clients = [open_client(flavour, server.url) for flavour in FLAVOURS]
    enough = HEARTBEAT.max_attempts + 3  # the server would have closed a silent client by then
    for client in clients:
        client.wait("received", enough, text='{"op":1,"d":{}}')
        client.wait("sent", enough, text='{"op":11,"d":{}}')
        assert client.all("disconnected") == []


def test_comes_back_to_a_server_that_was_restarted(open_client: Opening, flavour: str) -> None:
    with ServerProcess() as server:
        client = open_client(flavour, server.url)
        client.authenticate("7")
        assert server.stop() == 0
        disconnected = client.wait("disconnected")[0]  # failed attempts to reconnect follow
        assert (disconnected["code"], disconnected["willAttemptReconnect"]) == (1001, True)
        server.start()
        assert client.wait("connected", 2)[1]["isAutomaticReconnection"] is True
        assert client.authenticate("7", logins=2) == {"id": "7"}
        client.send({}, "PING")
        client.until("PONG")


def test_lives_with_a_server_that_has_no_rules_to_announce(open_client: Opening, flavour: str) -> None:
    server = Server(authentication={"send_user_object": False})

    @server.authenticator
    def believe(data: dict[str, str], _: object) -> User:
        return User(data["id"])

    with served(server) as endpoint:
        client = open_client(flavour, endpoint.url)
        client.authenticate("7")
        assert client.frames() == [
            '{"op":10,"d":{"c_authentication_timeout":10000,"rules":[],"v":2}}',
            '{"op":22,"d":{}}',
        ]
