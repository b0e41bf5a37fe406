"""Tokens that npm applications sign, whose id is a number in a claim of its own, and their revocation."""

import time
from pathlib import Path

from mesa_ws import Dispatcher, Server
from mesa_ws.tokens import Secrets, TokenAuthenticator
from tests.redis_server import RedisServer
from tests.system.cli.mesa_process import MesaProcess

from .conftest import Opening
from .mixed import Cluster
from .served import served

SECRET = "a secret of at least 32 characters"


async def test_a_number_in_a_claim_is_the_id_that_dispatchers_send_to(
    cluster: Cluster,
    redis_server: RedisServer,
    namespace: str,
    open_client: Opening,
    flavour: str,
    tmp_path: Path,
) -> None:
    with MesaProcess(
        tmp_path,
        *("serve", "--json", "--port", "0", "--no-api", "--wire", "mesa1", "--jwt-id-claim", "id"),
        *("--redis", redis_server.url, "--namespace", namespace),
        environment={"MESA_JWT_SECRET": SECRET},
    ) as server:
        client = open_client(flavour, server.document()["url"])
        assert client.authenticate_by_token({"id": 42}, SECRET) == {"id": "42"}
        await cluster.foreign("dispatch.js", ids=["42"], numbers=[1, 2, 3], away="")
        messages = client.wait("message", 3)
        assert [message["data"] for message in messages] == [1, 2, 3]


def test_a_client_whose_login_is_revoked_comes_back_and_is_refused_until_it_has_a_new_token(
    redis_url: str, namespace: str, open_client: Opening, flavour: str
) -> None:
    now = int(time.time())
    server = Server(redis_url, namespace=namespace, reconnect={"enabled": True, "interval": 0.1})
    server.authenticator(TokenAuthenticator(Secrets(SECRET), id_claim="id"))
    with served(server) as endpoint, Dispatcher(redis_url, namespace=namespace) as dispatcher:
        client = open_client(flavour, endpoint.url)
        client.authenticate_by_token({"id": 42, "iat": now - 5}, SECRET)
        dispatcher.revoke(["42"], issued_before=now - 1)
        for times in (1, 2):
            assert client.wait("disconnected", times, code=1008)[-1]["willAttemptReconnect"] is True
            client.wait("received", times + 1)
            client.wait("connected", times + 1)
            claims = {"id": 42, "iat": now - 5 if times == 1 else now}
            client.authenticate_by_token(claims, SECRET)
        client.wait("user", 2)
        dispatcher.disconnect(["42"], code=4100)
        assert client.wait("disconnected", code=4100)[0]["willAttemptReconnect"] is True
