"""How clients of a server without an application say who they are."""

from typing import Any, cast

import click
import pytest

from mesa_ws.cli.config import Configuration, Jwt
from mesa_ws.cli.tokens import authenticator_of, is_loopback, trust
from mesa_ws.errors import Refused
from mesa_ws.server.connection import Connection
from mesa_ws.tokens import TokenAuthenticator
from mesa_ws.transports.listening import HostOrHosts

NO_CONNECTION = cast("Connection", None)


def test_a_secret_means_tokens() -> None:
    secret = Jwt(secret="0123456789abcdef0123456789abcdef")
    assert isinstance(authenticator_of(Configuration(jwt=secret)), TokenAuthenticator)


def test_demo_authentication_trusts() -> None:
    assert authenticator_of(Configuration(insecure_demo_auth=True)) is trust


def test_demo_authentication_is_refused_where_other_machines_can_connect() -> None:
    configuration = Configuration(insecure_demo_auth=True, host="0.0.0.0")
    with pytest.raises(click.UsageError, match=r"got 0.0.0.0; .*--insecure-demo-auth-anywhere"):
        authenticator_of(configuration)


def test_demo_authentication_anywhere_has_to_be_asked_for() -> None:
    configuration = Configuration(insecure_demo_auth_anywhere=True, host="0.0.0.0")
    assert authenticator_of(configuration) is trust


def test_without_a_choice_the_choices_are_told() -> None:
    with pytest.raises(click.UsageError) as caught:
        authenticator_of(Configuration())
    for choice in ("--jwt-secret-file", "MESA_JWT_SECRET", "--insecure-demo-auth", "APP:server"):
        assert choice in caught.value.message


async def test_trust_takes_the_id_that_the_client_names() -> None:
    assert (await trust({"id": "7"}, NO_CONNECTION)).id == "7"


@pytest.mark.parametrize("data", [None, {}, {"id": 7}, {"id": "*"}, {"id": ""}, []])
async def test_trust_refuses_what_is_no_id(data: Any) -> None:
    with pytest.raises(Refused, match=r'expected the authentication data \{"id": "..."\}'):
        await trust(data, NO_CONNECTION)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", ("localhost", "::1")])
def test_loopback_addresses_are_known(host: HostOrHosts) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", "", ("::1", "::")])
def test_other_addresses_are_not_loopback(host: HostOrHosts) -> None:
    assert not is_loopback(host)
