"""Keys of tokens in files, as `mesa serve` gets them."""

from pathlib import Path
from typing import cast

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mesa_ws.cli.config import Jwt
from mesa_ws.cli.tokens import token_authenticator
from mesa_ws.errors import InvalidInput
from mesa_ws.server.connection import Connection

SECRET = "0123456789abcdef0123456789abcdef"
NO_CONNECTION = cast("Connection", None)


async def id_of(settings: Jwt, token: str) -> str:
    user = await token_authenticator(settings)({"token": token}, NO_CONNECTION)
    return str(user.id)


@pytest.fixture
def secret_file(tmp_path: Path) -> str:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n", encoding="utf-8")
    return str(file)


async def test_the_secret_may_stand_in_a_file(secret_file: str) -> None:
    token = jwt.encode({"sub": "7"}, SECRET, "HS256")
    user = await token_authenticator(Jwt(secret_file=secret_file))({"token": token}, NO_CONNECTION)
    assert user.id == "7"


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(InvalidInput, match=r"jwt.secret_file: expected a file to read, got secret: No such"):
        token_authenticator(Jwt(secret_file="secret"))


def test_a_file_without_a_secret_is_told() -> None:
    Path("secret").write_text("\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"jwt.secret_file: expected a key in secret, got an empty file"):
        token_authenticator(Jwt(secret_file="secret"))


def test_a_file_that_is_not_text_is_told() -> None:
    Path("secret").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match=r"jwt.secret_file: expected a file to read, got secret: 'utf-8'"):
        token_authenticator(Jwt(secret_file="secret"))


async def test_secrets_may_stand_in_several_files(secret_file: str, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("1" * 32, encoding="utf-8")
    settings = Jwt(secret_file=(str(tmp_path / "new"), secret_file))
    for secret in (SECRET, "1" * 32):
        assert await id_of(settings, jwt.encode({"sub": "7"}, secret, "HS256")) == "7"


async def test_public_keys_may_stand_in_several_files(tmp_path: Path) -> None:
    keys = [Ed25519PrivateKey.generate() for _ in range(2)]
    files = [tmp_path / f"{number}.pem" for number in range(2)]
    for key, file in zip(keys, files, strict=True):
        file.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    settings = Jwt(public_key_file=tuple(map(str, files)), id_claim="id")
    for key in keys:
        assert await id_of(settings, jwt.encode({"id": 42}, key, "EdDSA")) == "42"


async def test_a_url_means_published_keys() -> None:
    with pytest.raises(InvalidInput, match=r"jwks_url: expected https://"):
        token_authenticator(Jwt(jwks_url="http://id.example.com/jwks.json"))
