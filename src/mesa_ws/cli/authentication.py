"""How clients of a server without an application say who they are."""

from ipaddress import ip_address
from typing import Any

import click

from ..calling import Handler
from ..errors import InvalidRecipients, Refused
from ..server.connection import Connection
from ..transports.listening import HostOrHosts, listed
from ..user import User
from .config.schema import Configuration
from .tokens import TokenAuthenticator

_CHOICES = (
    "expected a way for clients to say who they are, got none. Choose one:\n"
    "  --jwt-secret-file FILE, or MESA_JWT_SECRET   they send a token signed with your secret\n"
    "  --insecure-demo-auth                         they name their id themselves, for trying things out\n"
    "  APP:server                                   your application decides"
)


def authenticator_of(configuration: Configuration) -> Handler:
    """The authenticator that the configuration asks for.

    Raises:
        UsageError: it asks for none, or for one that would let anybody be anybody.
        InvalidInput: the secret for tokens cannot be had.
    """
    if configuration.jwt.is_wanted:
        return TokenAuthenticator(configuration.jwt)
    if configuration.insecure_demo_auth_anywhere:
        return trust
    if not configuration.insecure_demo_auth:
        raise click.UsageError(_CHOICES)
    if not is_loopback(configuration.host):
        got = ", ".join(listed(configuration.host)) or "every address"
        raise click.UsageError(
            f"--insecure-demo-auth: expected a host that only this machine can reach, such as 127.0.0.1, "
            f"got {got}; to let anybody be anybody, --insecure-demo-auth-anywhere"
        )
    return trust


async def trust(data: Any, connection: Connection) -> User:
    """Believe `{"id": "..."}`.

    Raises:
        Refused: there is no id in `data`.
    """
    try:
        return User(data.get("id") if isinstance(data, dict) else None)  # type: ignore[arg-type]
    except InvalidRecipients as error:
        raise Refused(f'expected the authentication data {{"id": "..."}}: {error}') from error


def is_loopback(hosts: HostOrHosts) -> bool:
    """Whether only this machine can reach `hosts`."""
    return all(_is_loopback(host) for host in listed(hosts))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
