"""Authenticators that know Django's users, by the session of a browser or by a token."""

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user, get_user_model
from django.core import signing
from django.http import HttpRequest, parse_cookie

from ... import Connection, Refused, User
from .configuration import configured, database

SALT = "mesa_ws.contrib.django"

ISSUED_AT = "_mesa_issued_at"
"""Where a session keeps when it was logged in."""


def note_login(*, request: Any, **_: Any) -> None:
    """Let a session know when its user logged in, for revocations; a login by a token may have no session."""
    session = getattr(request, "session", None)
    if session is not None:
        session[ISSUED_AT] = time.time()


@database()
def authenticate_session(data: Any, connection: Connection) -> User:
    """Accept the user of the session whose cookie the browser sent with its handshake.

    The id is the user's primary key as text. The login ends when a session would that is saved now,
    since most stores do not tell when it was; a session that began before the application was installed has
    no time of issue. The session is read, never changed.

    Raises:
        Refused: there is no session, it has ended, or its user may not log in.
    """
    cookies = parse_cookie(connection.request.headers.get("Cookie", ""))
    store: Callable[[str | None], Any] = import_module(settings.SESSION_ENGINE).SessionStore
    session = store(cookies.get(settings.SESSION_COOKIE_NAME))
    session.cycle_key = session.flush = lambda: None  # the browser would not learn of a new key from here
    request = HttpRequest()
    request.session = session
    user = get_user(request)
    if not user.is_authenticated:
        raise Refused("the browser sent no cookie of a session that is logged in")
    return User(
        str(user.pk),
        issued_at=session.get(ISSUED_AT),
        expires_at=session.get_expiry_date().timestamp(),
    )


def token_for(user: Any) -> str:
    """Return a token with which a client is `user`, for `MESA["TOKEN_AGE"]` seconds."""
    token: str = signing.dumps({"id": str(user.pk), "iat": int(time.time())}, salt=SALT)
    return token


def user_of_token(token: str) -> Any:
    """Return the user that a token was made for.

    Raises:
        BadSignature: it is none of this project, or too old, or its user may not log in any more.
    """
    return _user_and_time(token)[0]


@database()
def authenticate_token(data: Any, connection: Connection) -> User:
    """Accept `{"token": token_for(user)}`. The id is the user's primary key as text.

    Raises:
        Refused: there is no token, or it is not valid.
    """
    token = data.get("token") if isinstance(data, dict) else None
    if not isinstance(token, str):
        raise Refused('expected the authentication data {"token": "..."}, got no token')
    try:
        user, issued_at = _user_and_time(token)
    except signing.BadSignature as error:
        raise Refused(f"the token is not valid: {error}") from error
    return User(str(user.pk), issued_at=issued_at, expires_at=issued_at + configured()["TOKEN_AGE"])


def _user_and_time(token: str) -> tuple[Any, float]:
    claims = signing.loads(token, salt=SALT, max_age=configured()["TOKEN_AGE"])
    user = get_user_model()._default_manager.filter(pk=claims["id"]).first()
    if user is None or not user.is_active:
        raise signing.BadSignature(f"there is no active user {claims['id']!r}")
    return user, claims["iat"]
