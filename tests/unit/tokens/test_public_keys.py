"""Tokens of other signers: public keys, and sets of keys behind a URL."""

import asyncio
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, cast

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from mesa_ws.errors import InvalidInput, Refused
from mesa_ws.server.connection import Connection
from mesa_ws.tokens import JwksKeys, Keys, PublicKeys, Secrets, TokenAuthenticator
from mesa_ws.tokens.keys import COOLDOWN, LIFETIME

NO_CONNECTION = cast("Connection", None)

MAKERS: dict[str, Callable[[], Any]] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}
PRIVATE = {algorithm: make() for algorithm, make in MAKERS.items()}
OTHER = ed25519.Ed25519PrivateKey.generate()


def pem(key: Any) -> str:
    text: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def private_pem(key: Any) -> str:
    text: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text.decode()


def jwk(key: Any, algorithm: str, id: str) -> dict[str, Any]:
    public = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {**public, "kid": id, "use": "sig"}


def signed(key: Any, algorithm: str, id: str | None = None, **claims: Any) -> str:
    return jwt.encode({"sub": "7", **claims}, key, algorithm, headers={"kid": id} if id else None)


async def id_of(keys: Keys, token: str) -> str:
    return (await TokenAuthenticator(keys)({"token": token}, NO_CONNECTION)).id


@pytest.mark.parametrize("algorithm", PRIVATE)
async def test_a_public_key_verifies_what_its_owner_signed(algorithm: str) -> None:
    keys = PublicKeys(pem(PRIVATE[algorithm]))
    assert await id_of(keys, signed(PRIVATE[algorithm], algorithm)) == "7"


@pytest.mark.parametrize("algorithm", PRIVATE)
async def test_a_token_of_another_key_is_refused(algorithm: str) -> None:
    keys = PublicKeys(pem(MAKERS[algorithm]()))
    with pytest.raises(Refused, match="Signature verification failed"):
        await id_of(keys, signed(PRIVATE[algorithm], algorithm))


async def test_several_keys_verify_while_one_replaces_another() -> None:
    keys = PublicKeys(pem(OTHER) + "\n" + pem(PRIVATE["EdDSA"]) + pem(PRIVATE["RS256"]))
    assert await id_of(keys, signed(OTHER, "EdDSA")) == "7"
    assert await id_of(keys, signed(PRIVATE["EdDSA"], "EdDSA", "any")) == "7"
    assert await id_of(keys, signed(PRIVATE["RS256"], "RS256")) == "7"


async def test_several_secrets_verify_while_one_replaces_another() -> None:
    old, new = "0" * 32, "1" * 32
    keys = Secrets([new, old])
    for secret in (old, new):
        assert await id_of(keys, signed(secret, "HS256")) == "7"
    with pytest.raises(Refused, match="Signature verification failed"):
        await id_of(keys, signed("2" * 32, "HS256"))


async def test_the_text_of_a_public_key_is_no_secret() -> None:
    """A server that let tokens choose their algorithm would accept this one (RFC 8725 section 2.1)."""
    text = pem(PRIVATE["RS256"])
    signing = jwt.api_jws.PyJWS()
    signing.unregister_algorithm("HS256")
    signing.register_algorithm("HS256", Unchecked(Unchecked.SHA256))
    forged = signing.encode(b'{"sub":"7"}', text, "HS256")
    with pytest.raises(Refused, match="no key for alg 'HS256'"):
        await id_of(PublicKeys(text), forged)


class Unchecked(jwt.algorithms.HMACAlgorithm):
    """Signs with any text, as an attacker's library does."""

    def prepare_key(self, key: str | bytes) -> bytes:
        return key.encode() if isinstance(key, str) else key


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", r"expected one or more in PEM, -----BEGIN PUBLIC KEY-----, got none"),
        (private_pem(OTHER), r"expected the public half, got a private key"),
        (pem(ec.generate_private_key(ec.SECP384R1())), r"got EllipticCurve of 384 bits|got EC"),
        (pem(rsa.generate_private_key(65537, 1024)), r"got RSA of 1024 bits"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", r"got PUBLIC KEY that cannot be read"),
    ],
)
def test_what_is_no_public_key_is_told(text: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        PublicKeys(text)


class Provider:
    """An identity provider: it publishes keys, and counts how often they are read."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys = list(keys)
        self.reads = 0
        self.is_up = True
        self.now = 0.0
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.reads += 1
                self.send_response(200 if provider.is_up else 503)
                self.end_headers()
                self.wfile.write(json.dumps({"keys": provider.keys}).encode())

            def log_message(self, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.jwks = JwksKeys(f"http://127.0.0.1:{self.server.server_port}/jwks.json", lambda: self.now)

    async def settled(self) -> None:
        """Wait until a reading in the background has ended."""
        while self.jwks._reading is not None:
            await asyncio.sleep(0.01)


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider(*(jwk(key, algorithm, algorithm) for algorithm, key in PRIVATE.items()))
    thread = Thread(target=provider.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield provider
    provider.server.shutdown()
    provider.server.server_close()
    thread.join()


async def test_published_keys_are_read_once_for_many_tokens(provider: Provider) -> None:
    tokens = [signed(key, algorithm, algorithm) for algorithm, key in PRIVATE.items()]
    tokens += [signed(key, algorithm) for algorithm, key in PRIVATE.items()]  # which name no key
    assert await asyncio.gather(*(id_of(provider.jwks, token) for token in tokens * 5)) == ["7"] * 30
    assert provider.reads == 1


async def test_a_new_key_is_found_and_a_withdrawn_one_forgotten(provider: Provider) -> None:
    old = signed(PRIVATE["EdDSA"], "EdDSA", "EdDSA")
    assert await id_of(provider.jwks, old) == "7"
    provider.keys = [jwk(OTHER, "EdDSA", "new")]
    provider.now += COOLDOWN
    assert await id_of(provider.jwks, signed(OTHER, "EdDSA", "new")) == "7"
    with pytest.raises(Refused, match="no key for alg 'EdDSA', kid 'EdDSA'"):
        await id_of(provider.jwks, old)
    assert provider.reads == 2


async def test_tokens_of_invented_keys_do_not_make_the_server_read_again_and_again(
    provider: Provider,
) -> None:
    await id_of(provider.jwks, signed(PRIVATE["EdDSA"], "EdDSA", "EdDSA"))
    for number in range(20):
        provider.now += COOLDOWN / 10
        with pytest.raises(Refused, match="no key for alg"):
            await id_of(provider.jwks, signed(OTHER, "EdDSA", f"invented {number}"))
    assert provider.reads == 3


async def test_keys_that_are_old_are_read_again_behind_the_scenes(provider: Provider) -> None:
    token = signed(PRIVATE["EdDSA"], "EdDSA", "EdDSA")
    await id_of(provider.jwks, token)
    provider.keys = [jwk(OTHER, "EdDSA", "new")]
    provider.now += LIFETIME
    assert await id_of(provider.jwks, token) == "7"
    await provider.settled()
    with pytest.raises(Refused):
        await id_of(provider.jwks, token)
    assert provider.reads == 2


async def test_keys_serve_on_while_their_provider_is_away(
    provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    token = signed(PRIVATE["EdDSA"], "EdDSA", "EdDSA")
    await id_of(provider.jwks, token)
    provider.is_up, provider.now = False, LIFETIME
    await id_of(provider.jwks, token)
    await provider.settled()
    assert await id_of(provider.jwks, token) == "7"
    assert "the keys for tokens stay as they are" in caplog.text


async def test_a_provider_that_was_never_there_is_an_error_and_no_refusal(provider: Provider) -> None:
    provider.is_up = False
    with pytest.raises(jwt.PyJWKClientConnectionError):
        await id_of(provider.jwks, signed(PRIVATE["EdDSA"], "EdDSA", "EdDSA"))


async def test_a_published_secret_is_not_used(provider: Provider) -> None:
    secret = "0" * 32
    provider.keys.append({"kty": "oct", "k": "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA", "kid": "s"})
    with pytest.raises(Refused, match="no key for alg 'HS256', kid 's'"):
        await id_of(provider.jwks, signed(secret, "HS256", "s"))


@pytest.mark.parametrize("url", ["http://id.example.com/jwks.json", "file:///etc/keys", "jwks.json"])
def test_keys_come_by_https_alone(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"jwks_url: expected https://"):
        JwksKeys(url)
