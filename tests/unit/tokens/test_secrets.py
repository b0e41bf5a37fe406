"""Authentication by tokens that are signed with a shared secret."""

import time
from typing import Any, cast

import jwt
import pytest

from mesa_ws.errors import InvalidInput, Refused
from mesa_ws.messages.recipients import User
from mesa_ws.server.connection import Connection
from mesa_ws.tokens import Secrets, TokenAuthenticator

SECRET = "0123456789abcdef0123456789abcdef"
NO_CONNECTION = cast("Connection", None)
"""Tokens say all there is to know; the connection is not looked at."""


async def authenticated(claims: dict[str, Any], algorithm: str = "HS256", **settings: Any) -> User:
    token = jwt.encode(claims, SECRET.ljust(64, "0") if algorithm != "HS256" else SECRET, algorithm)
    return await TokenAuthenticator(Secrets(SECRET), **settings)({"token": token}, NO_CONNECTION)


async def test_the_subject_of_a_token_is_the_id() -> None:
    user = await authenticated({"sub": "7"})
    assert (user.id, user.data) == ("7", {"id": "7"})


async def test_a_token_that_has_not_expired_is_accepted_and_its_times_are_those_of_the_login() -> None:
    now = int(time.time())
    user = await authenticated({"sub": "7", "exp": now + 60, "iat": now - 5}, leeway=7)
    assert (user.id, user.issued_at, user.expires_at) == ("7", now - 5, now + 67)
    lasting = await authenticated({"sub": "7"})
    assert (lasting.issued_at, lasting.expires_at) == (None, None)


@pytest.mark.parametrize(("claim", "sign"), [("exp", -1), ("nbf", 1), ("iat", 1)])
async def test_clocks_may_differ_by_half_a_minute(claim: str, sign: int) -> None:
    assert (await authenticated({"sub": "7", claim: time.time() + 20 * sign})).id == "7"
    with pytest.raises(Refused):
        await authenticated({"sub": "7", claim: time.time() + 40 * sign})
    assert (await authenticated({"sub": "7", claim: time.time() + 40 * sign}, leeway=60)).id == "7"


async def test_a_user_is_issued_when_the_token_is() -> None:
    assert (await authenticated({"sub": "7", "iat": 1000.9})).issued_at == 1000
    assert (await authenticated({"sub": "7", "nbf": 1000})).issued_at is None


async def test_another_claim_may_be_the_id() -> None:
    assert (await authenticated({"id": "9", "sub": "7"}, id_claim="id")).id == "9"
    with pytest.raises(Refused, match='missing the "id" claim'):
        await authenticated({"sub": "7"}, id_claim="id")


async def test_an_integer_as_an_id_becomes_text() -> None:
    assert (await authenticated({"id": 42}, id_claim="id")).id == "42"
    assert (await authenticated({"sub": 42})).id == "42"


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"sub": True},
        {"sub": 7.5},
        {"sub": None},
        {"sub": ["7"]},
        {"sub": ""},
        {"sub": "*"},
        {"sub": "x" * 256},
        {"sub": "7", "exp": time.time() - 60},
        {"sub": "7", "nbf": time.time() + 3600},
        {"sub": "7", "aud": "another audience"},
    ],
)
async def test_a_token_that_is_not_valid_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        await authenticated(claims)


async def test_a_token_of_another_secret_is_refused() -> None:
    token = jwt.encode({"sub": "7"}, SECRET[::-1], "HS256")
    with pytest.raises(Refused, match="Signature verification failed"):
        await TokenAuthenticator(Secrets(SECRET))({"token": token}, NO_CONNECTION)


async def test_a_token_without_a_signature_is_refused() -> None:
    token = jwt.encode({"sub": "7"}, None, "none")  # type: ignore[arg-type]
    with pytest.raises(Refused, match="alg"):
        await TokenAuthenticator(Secrets(SECRET))({"token": token}, NO_CONNECTION)


async def test_the_algorithm_is_the_one_of_the_settings_whatever_the_token_says() -> None:
    with pytest.raises(Refused, match="no key for alg 'HS512'"):
        await authenticated({"sub": "7"}, "HS512")


async def test_another_algorithm_may_be_set() -> None:
    secret = SECRET * 2
    token = jwt.encode({"sub": "7"}, secret, "HS512")
    user = await TokenAuthenticator(Secrets(secret, "HS512"))({"token": token}, NO_CONNECTION)
    assert user.id == "7"


async def test_audience_and_issuer_are_accepted_as_set() -> None:
    claims = {"sub": "7", "aud": "chat", "iss": "shop"}
    assert (await authenticated(claims, audience="chat", issuer="shop")).id == "7"


@pytest.mark.parametrize("claims", [{"sub": "7", "iss": "shop"}, {"sub": "7", "aud": "chat", "iss": "x"}])
async def test_a_token_for_another_audience_or_issuer_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        await authenticated(claims, audience="chat", issuer="shop")


@pytest.mark.parametrize("data", [None, {}, {"token": 5}, [], {"token": "x.y.z"}, {"token": ""}])
async def test_data_without_a_token_is_refused(data: Any) -> None:
    with pytest.raises(Refused):
        await TokenAuthenticator(Secrets(SECRET))(data, NO_CONNECTION)


async def test_a_short_secret_works_and_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    authenticate = TokenAuthenticator(Secrets("short"))
    token = jwt.encode({"sub": "7"}, "short", "HS256")
    assert [(await authenticate({"token": token}, NO_CONNECTION)).id for _ in range(2)] == ["7", "7"]
    assert caplog.messages == ["the secret for tokens has 5 bytes; HS256 is safe with 32 or more"]


@pytest.mark.parametrize(
    ("secrets", "algorithm", "problem"),
    [
        ([], "HS256", "expected one or more, got none"),
        ([SECRET, ""], "HS256", "expected one or more, got an empty one"),
        (SECRET, "RS256", "expected HS256, HS384 or HS512, got 'RS256'"),
    ],
)
def test_secrets_that_cannot_be_used_are_told(secrets: list[str], algorithm: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        Secrets(secrets, algorithm)
