"""`mesa dispatch` and `mesa disconnect` with a server."""

import json
import re

import jwt
import pytest

from mesa_ws.client import Client
from mesa_ws.errors import AuthenticationFailed, ConnectionClosed
from mesa_ws.messages.message import Message

from .conftest import KEY, Site, Starter


async def received(client: Client) -> Message:
    return await anext(aiter(client))


async def test_a_message_reaches_whom_it_is_for(mesa: Starter, site: Site) -> None:
    environment = {"MESA_URL": site.api_url, "MESA_API_KEY": KEY}
    async with Client(site.url) as client:
        await client.authenticate({"id": "1"})
        run = mesa("dispatch", "HELLO", '{"n": 1}', "--to", "0,1", environment=environment)
        assert await received(client) == Message(0, {"n": 1}, "HELLO")
    assert run.ended() == 0


async def test_ids_that_are_excluded_receive_nothing(site: Site) -> None:
    async with Client(site.url) as client:
        await client.authenticate({"id": "1"})
        await site.run("dispatch", "FIRST", "1", "--all", "--excluding", "1", "--excluding", "2")
        await site.run("dispatch", "SECOND", "2", "--to", "*")
        assert (await received(client)).type == "SECOND"


async def test_an_id_may_contain_a_comma(site: Site) -> None:
    async with Client(site.url) as client:
        await client.authenticate({"id": "a,b"})
        await site.run("dispatch", "HELLO", "null", "--to", '["a,b"]')
        assert await received(client) == Message(0, None, "HELLO")


async def test_data_comes_from_stdin_and_the_opcode_from_its_option(site: Site) -> None:
    async with Client(site.url) as client:
        await client.authenticate({"id": "1"})
        await site.run("dispatch", "HELLO", "-", "--to", "1", "--opcode", "99", stdin="[1]")
        assert await received(client) == Message(99, [1], "HELLO")


async def test_disconnect_closes_the_connections_of_an_id(site: Site) -> None:
    async with Client(site.url, reconnect=False) as client:
        await client.authenticate({"id": "1"})
        await site.run("disconnect", "--to", "1")
        with pytest.raises(ConnectionClosed, match="1000"):
            await received(client)


async def test_disconnect_closes_the_connections_of_everybody_if_that_is_said(site: Site) -> None:
    async with Client(site.url, reconnect=False) as client:
        await client.authenticate({"id": "1"})
        await site.run("disconnect", "--all")
        with pytest.raises(ConnectionClosed, match="1000"):
            await received(client)


async def test_disconnect_has_a_code_and_a_reason_if_they_are_said(site: Site) -> None:
    async with Client(site.url, reconnect=False) as client:
        await client.authenticate({"id": "1"})
        run = await site.run("disconnect", "--to", "1,2", "--code", "4100", "--reason", "moved")
        assert re.fullmatch(r"order [0-9a-f]{32} carried out by 1 server\n", run.stdout)
        with pytest.raises(ConnectionClosed) as closed:
            await received(client)
        assert (closed.value.code, closed.value.reason) == (4100, "moved")


async def test_revoke_ends_logins_and_refuses_those_that_were_issued_before(site: Site) -> None:
    async with Client(site.url, reconnect=False) as client:
        await client.authenticate({"id": "revoked"})
        run = await site.run("revoke", "--to", "revoked", "--reason", "out", "--json")
        document = json.loads(run.stdout)
        assert (len(document["done"]), document["pending"]) == (1, [])
        with pytest.raises(ConnectionClosed) as closed:
            await received(client)
        assert (closed.value.code, closed.value.reason) == (1008, "out")
    async with Client(site.url, reconnect=False) as client:
        with pytest.raises(AuthenticationFailed):
            await client.authenticate({"id": "revoked"})


async def test_revoke_spares_logins_that_were_issued_later(mesa: Starter) -> None:
    environment = {"MESA_API_KEY": KEY, "MESA_JWT_SECRET": KEY * 2}
    server = mesa("serve", "--json", "--port", "0", "--api-port", "0", environment=environment).document()
    old, new = (jwt.encode({"sub": "1", "iat": 1000 + n}, KEY * 2) for n in range(2))
    async with Client(server["url"]) as client:
        await client.authenticate({"token": new})
        site = Site(server["url"], server["api_url"])
        await site.run("revoke", "--to", "1", "--issued-before", "1000")
        await site.run("dispatch", "HELLO", "1", "--to", "1")
        assert await received(client) == Message(0, 1, "HELLO")
    async with Client(server["url"], reconnect=False) as client:
        with pytest.raises(AuthenticationFailed):
            await client.authenticate({"token": old})


def test_the_receipt_is_a_table(site: Site) -> None:
    result = site.mesa("dispatch", "HELLO", "1", "--to", "nobody")
    assert "nobody" in result.stdout
    assert "dropped: offline" in result.stdout
    assert "\x1b" not in result.stdout


def test_the_receipt_may_be_json(site: Site) -> None:
    [line] = site.mesa("dispatch", "HELLO", "1", "--to", "nobody", "--json").stdout.splitlines()
    document = json.loads(line)
    nowhere = {"stored": False, "online": 0, "dropped": "offline", "position": None, "displaced": 0}
    assert document["deliveries"] == {"nobody": nowhere}
    assert document["took_ms"] > 0


def test_a_wrong_key_is_one_line_and_exit_code_1(site: Site) -> None:
    result = site.mesa("dispatch", "HELLO", "1", "--to", "1", MESA_API_KEY="fedcba9876543210")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "fedcba" not in result.stderr


async def test_dispatching_through_redis_needs_no_server_in_between(
    mesa: Starter, site: Site, redis_url: str, namespace: str
) -> None:
    environment = {"MESA_REDIS": redis_url, "MESA_NAMESPACE": namespace}
    server = mesa.serve("--no-api", environment=environment)
    async with Client(server.document()["url"]) as client:
        await client.authenticate({"id": "1"})
        await site.run("dispatch", "HELLO", "1", "--to", "1", MESA_URL=redis_url, MESA_NAMESPACE=namespace)
        assert await received(client) == Message(0, 1, "HELLO")
