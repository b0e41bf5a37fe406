"""How clients authenticate to a server without an application: by tokens, or by naming their id."""

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click

from ..errors import InvalidInput, InvalidRecipients, Refused
from ..handlers.caller import Handler
from ..messages.recipients import User
from ..server.connection import Connection
from ..transports.listening import HostOrHosts, listed
from .config import Configuration, Jwt


def token_authenticator(settings: Jwt) -> Handler:
    """Return the authenticator that accepts signed tokens as the settings say.

    Raises:
        InvalidInput: a key cannot be read or used, or a library is not installed.
    """
    try:
        from ..tokens import (  # noqa: PLC0415 - only who wants tokens needs the libraries for them
            JwksKeys,
            Keys,
            PublicKeys,
            Secrets,
            TokenAuthenticator,
        )
    except ImportError as error:
        raise InvalidInput(
            f"jwt: expected the module {error.name} to be installed, got none; pip install 'mesa-ws[jwt]'"
        ) from error
    keys: Keys
    if settings.jwks_url is not None:
        keys = JwksKeys(settings.jwks_url)
    elif settings.public_key_file is not None:
        keys = PublicKeys("\n".join(_contents("jwt.public_key_file", settings.public_key_file)))
    else:
        secrets = [settings.secret] if settings.secret else _contents("jwt.secret_file", settings.secret_file)
        keys = Secrets(secrets, settings.algorithm)
    return TokenAuthenticator(
        keys,
        id_claim=settings.id_claim,
        audience=settings.audience,
        issuer=settings.issuer,
        leeway=settings.leeway,
    )


def _contents(setting: str, files: str | tuple[str, ...] | None) -> list[str]:
    return [_content(setting, file) for file in ([files] if isinstance(files, str) else files or ())]


def _content(setting: str, file: str) -> str:
    """Return what a file holds, without a line break at its end."""
    try:
        content = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        problem = getattr(error, "strerror", None) or error
        raise InvalidInput(f"{setting}: expected a file to read, got {file}: {problem}") from error
    if not content:
        raise InvalidInput(f"{setting}: expected a key in {file}, got an empty file")
    return content


_CHOICES = (
    "expected a way for clients to authenticate, got none. Choose one:\n"
    "  --jwt-secret-file FILE, or MESA_JWT_SECRET   they send a token signed with your secret\n"
    "  --jwt-public-key-file FILE, --jwt-jwks-url URL\n"
    "                                               they send a token that your identity provider signed\n"
    "  --insecure-demo-auth                         they name their id themselves, for trying things out\n"
    "  APP:server                                   your application decides"
)


def authenticator_of(configuration: Configuration) -> Handler:
    """Return the authenticator for the configuration.

    Raises:
        UsageError: it names none, or one that would let any client take any id.
        InvalidInput: the secret for tokens cannot be read.
    """
    if configuration.jwt.is_wanted:
        return token_authenticator(configuration.jwt)
    if configuration.insecure_demo_auth_anywhere:
        return trust
    if not configuration.insecure_demo_auth:
        raise click.UsageError(_CHOICES)
    if not is_loopback(configuration.host):
        got = ", ".join(listed(configuration.host)) or "every address"
        raise click.UsageError(
            f"--insecure-demo-auth: expected a host that only this machine can reach, such as 127.0.0.1, "
            f"got {got}; to let any client take any id, --insecure-demo-auth-anywhere"
        )
    return trust


async def trust(data: Any, connection: Connection) -> User:
    """Accept any `{"id": "..."}`."""
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
