"""`mesa serve` with the tokens that npm applications sign, whose id is a number in a claim of its own."""

from pathlib import Path

from tests.redis_server import RedisServer
from tests.system.cli.mesa_process import MesaProcess

from .conftest import Opening
from .mixed import Cluster

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
