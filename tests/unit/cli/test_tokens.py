"""Authentication by tokens that are signed with a shared secret."""

import time
from pathlib import Path
from typing import Any, cast

import jwt
import pytest

from mesa_ws.cli.config import Jwt
from mesa_ws.cli.tokens import TokenAuthenticator
from mesa_ws.errors import InvalidInput, Refused
from mesa_ws.messages.recipients import User
from mesa_ws.server.connection import Connection

SECRET = "0123456789abcdef0123456789abcdef"
NO_CONNECTION = cast("Connection", None)
"""Tokens say all there is to know; the connection is not looked at."""


async def authenticated(claims: dict[str, Any], algorithm: str = "HS256", **settings: Any) -> User:
    token = jwt.encode(claims, SECRET.ljust(64, "0") if algorithm != "HS256" else SECRET, algorithm)
    return await TokenAuthenticator(Jwt(secret=SECRET, **settings))({"token": token}, NO_CONNECTION)


async def test_the_subject_of_a_token_is_the_id() -> None:
    user = await authenticated({"sub": "7"})
    assert (user.id, user.data) == ("7", {"id": "7"})


async def test_a_token_that_has_not_expired_is_accepted() -> None:
    assert (await authenticated({"sub": "7", "exp": time.time() + 60})).id == "7"


async def test_a_token_of_a_clock_that_is_ahead_is_accepted() -> None:
    assert (await authenticated({"sub": "7", "iat": time.time() + 60})).id == "7"


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"sub": 7},
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
        await TokenAuthenticator(Jwt(secret=SECRET))({"token": token}, NO_CONNECTION)


async def test_a_token_without_a_signature_is_refused() -> None:
    token = jwt.encode({"sub": "7"}, None, "none")
    with pytest.raises(Refused, match="alg"):
        await TokenAuthenticator(Jwt(secret=SECRET))({"token": token}, NO_CONNECTION)


async def test_the_algorithm_is_the_one_of_the_settings_whatever_the_token_says() -> None:
    with pytest.raises(Refused, match="alg"):
        await authenticated({"sub": "7"}, "HS512")


async def test_another_algorithm_may_be_set() -> None:
    secret = SECRET * 2
    token = jwt.encode({"sub": "7"}, secret, "HS512")
    user = await TokenAuthenticator(Jwt(secret=secret, algorithm="HS512"))({"token": token}, NO_CONNECTION)
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
        await TokenAuthenticator(Jwt(secret=SECRET))(data, NO_CONNECTION)


@pytest.fixture
def secret_file(tmp_path: Path) -> str:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n", encoding="utf-8")
    return str(file)


async def test_the_secret_may_stand_in_a_file(secret_file: str) -> None:
    token = jwt.encode({"sub": "7"}, SECRET, "HS256")
    user = await TokenAuthenticator(Jwt(secret_file=secret_file))({"token": token}, NO_CONNECTION)
    assert user.id == "7"


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(InvalidInput, match=r"jwt.secret_file: expected a file to read, got secret: No such"):
        TokenAuthenticator(Jwt(secret_file="secret"))


def test_a_file_without_a_secret_is_told() -> None:
    Path("secret").write_text("\n", encoding="utf-8")
    with pytest.raises(
        InvalidInput, match=r"jwt.secret_file: expected a secret in secret, got an empty file"
    ):
        TokenAuthenticator(Jwt(secret_file="secret"))


def test_a_file_that_is_not_text_is_told() -> None:
    Path("secret").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match=r"jwt.secret_file: expected a file to read, got secret: 'utf-8'"):
        TokenAuthenticator(Jwt(secret_file="secret"))


async def test_a_short_secret_works_and_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    authenticate = TokenAuthenticator(Jwt(secret="short"))
    token = jwt.encode({"sub": "7"}, "short", "HS256")
    assert [(await authenticate({"token": token}, NO_CONNECTION)).id for _ in range(2)] == ["7", "7"]
    assert caplog.messages == ["the secret for tokens has 5 bytes; HS256 is safe with 32 or more"]
