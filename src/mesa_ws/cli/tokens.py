"""Authentication by tokens signed with a shared secret (RFC 7519)."""

import logging
import warnings
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

try:
    import jwt
except ImportError:  # pragma: no cover - covered by a process in which it cannot be imported
    jwt = None  # type: ignore[assignment]

log = logging.getLogger("mesa_ws.server")

_ADVISED_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""Advised length of a key: that of the hash, or longer (RFC 7518 section 3.2)."""


class TokenAuthenticator:
    """Accepts `{"token": "..."}` and makes the token's `sub` the id of the user.

    The algorithm is fixed; `exp` and `nbf` are checked, `aud` and `iss` as the settings say. A client
    with an invalid token is refused for good; the reason is logged, the token never.
    """

    def __init__(self, settings: Jwt) -> None:
        if jwt is None:
            raise InvalidInput("jwt: expected PyJWT to be installed, got none; pip install 'mesa-ws[jwt]'")
        self._settings = settings
        self._secret = _secret(settings)
        _advise(self._secret, settings.algorithm)

    async def __call__(self, data: Any, connection: Connection) -> User:
        """Authenticate a client."""
        token = data.get("token") if isinstance(data, dict) else None
        if not isinstance(token, str):
            raise Refused('expected the authentication data {"token": "..."}, got no token')
        try:
            return User(self._claims(token)["sub"])
        except jwt.PyJWTError as error:
            raise Refused(f"the token is not valid: {error}") from error
        except InvalidRecipients as error:
            raise Refused(f"the token's sub cannot be an id: {error}") from error

    def _claims(self, token: str) -> dict[str, Any]:
        settings = self._settings
        return jwt.decode(
            token,
            self._secret,
            algorithms=[settings.algorithm],
            audience=settings.audience,
            issuer=settings.issuer,
            options={"require": ["sub"], "verify_iat": False},
        )


def _secret(settings: Jwt) -> str:
    if settings.secret_file is None:
        return settings.secret or ""
    try:
        secret = Path(settings.secret_file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        problem = getattr(error, "strerror", None) or error
        raise InvalidInput(
            f"jwt.secret_file: expected a file to read, got {settings.secret_file}: {problem}"
        ) from error
    if not secret:
        raise InvalidInput(f"jwt.secret_file: expected a secret in {settings.secret_file}, got an empty file")
    return secret


def _advise(secret: str, algorithm: str) -> None:
    """Warn once of a short secret; the library would warn for every token."""
    warnings.filterwarnings("ignore", message="The HMAC key is", category=UserWarning)
    size, advised = len(secret.encode()), _ADVISED_BYTES[algorithm]
    if size < advised:
        log.warning(
            "the secret for tokens has %d bytes; %s is safe with %d or more", size, algorithm, advised
        )


_CHOICES = (
    "expected a way for clients to authenticate, got none. Choose one:\n"
    "  --jwt-secret-file FILE, or MESA_JWT_SECRET   they send a token signed with your secret\n"
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
        return TokenAuthenticator(configuration.jwt)
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
