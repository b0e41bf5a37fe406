"""The keys that verify tokens: shared secrets, public keys, and a set of keys behind a URL.

Each key has its algorithms, and a token of another algorithm is refused whatever it says of itself: the
text of a public key is never taken for a secret (RFC 8725 section 3.1).
"""

import asyncio
import logging
import re
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from ..concurrency.tasks import start
from ..errors import InvalidInput

log = logging.getLogger("mesa_ws.server")

SECRET_ALGORITHMS = ("HS256", "HS384", "HS512")
PUBLIC_ALGORITHMS = ("RS256", "ES256", "EdDSA")

_ADVISED_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""Advised length of a secret: that of the hash, or longer (RFC 7518 section 3.2)."""

LIFETIME = 300.0
"""Seconds after which a set of keys is read again, while the one that is there serves."""

COOLDOWN = 30.0
"""Seconds between two readings of a set of keys because a token names a key that it lacks."""

TIMEOUT = 5.0
"""Seconds that one reading of a set of keys may take."""

_SHORTEST_RSA = 2048
"""Bits of an RSA key at least (RFC 7518 section 3.3)."""

_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)


class Key(NamedTuple):
    """A key that verifies tokens.

    Attributes:
        key: as PyJWT takes it.
        algorithm: the one that its tokens are signed with.
        id: its `kid`; None for a key that may verify every token of its algorithm.
    """

    key: Any
    algorithm: str
    id: str | None = None


class Keys(Protocol):
    """Where the keys are."""

    async def find(self, algorithm: str, id: str | None) -> Sequence[Key]:
        """Return the keys that may verify a token of this `alg` and `kid`."""


class _FixedKeys:
    """Keys that stay as they are; several of them allow one to be replaced while tokens of both are valid."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = tuple(keys)

    async def find(self, algorithm: str, id: str | None) -> Sequence[Key]:
        return [key for key in self._keys if key.algorithm == algorithm]


class Secrets(_FixedKeys):
    """Secrets that are shared with those who sign.

    Args:
        secrets: one, or several while one replaces another.
        algorithm: `HS256`, `HS384` or `HS512`; no other is accepted.

    Raises:
        InvalidInput: there is none, one is empty, or the algorithm is another.
    """

    def __init__(self, secrets: str | Sequence[str], algorithm: str = "HS256") -> None:
        each = [secrets] if isinstance(secrets, str) else list(secrets)
        if not each or "" in each:
            got = "an empty one" if each else "none"
            raise InvalidInput(f"secrets: expected one or more, got {got}")
        if algorithm not in SECRET_ALGORITHMS:
            raise InvalidInput(f"algorithm: expected {_either(SECRET_ALGORITHMS)}, got {algorithm!r}")
        super().__init__([Key(secret, algorithm) for secret in each])
        _advise(min(len(secret.encode()) for secret in each), algorithm)


def _advise(size: int, algorithm: str) -> None:
    """Warn once of a short secret; the library would warn for every token."""
    warnings.filterwarnings("ignore", message="The HMAC key is", category=UserWarning)
    advised = _ADVISED_BYTES[algorithm]
    if size < advised:
        log.warning(
            "the secret for tokens has %d bytes; %s is safe with %d or more", size, algorithm, advised
        )


class PublicKeys(_FixedKeys):
    """Public keys of those who sign: RSA for RS256, P-256 for ES256, Ed25519 for EdDSA.

    Args:
        pem: one or more keys in PEM, as in `openssl pkey -pubout`.

    Raises:
        InvalidInput: there is none, one is private, or one is of another kind.
    """

    def __init__(self, pem: str) -> None:
        blocks = list(_PEM.finditer(pem))
        if not blocks:
            raise InvalidInput(
                "public key: expected one or more in PEM, -----BEGIN PUBLIC KEY-----, got none"
            )
        super().__init__([_public_key(block[1], block[0]) for block in blocks])


def _public_key(label: str, pem: str) -> Key:
    if "PRIVATE" in label:
        raise InvalidInput("public key: expected the public half, got a private key; openssl pkey -pubout")
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInput(
            f"public key: expected one in PEM, got {label} that cannot be read: {error}"
        ) from None
    if isinstance(key, RSAPublicKey) and key.key_size >= _SHORTEST_RSA:
        return Key(key, "RS256")
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return Key(key, "ES256")
    if isinstance(key, Ed25519PublicKey):
        return Key(key, "EdDSA")
    raise InvalidInput(
        f"public key: expected RSA of {_SHORTEST_RSA} bits or more, P-256 or Ed25519, got {_described(key)}"
    )


def _described(key: Any) -> str:
    size = getattr(key, "key_size", None)
    return type(key).__name__.removesuffix("PublicKey") + (f" of {size} bits" if size else "")


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


class JwksKeys:
    """The keys that an identity provider publishes (RFC 7517 section 5). For one event loop only.

    They are read at the first token, and again every `LIFETIME` seconds, or when a token names a key that
    they lack, at most once in `COOLDOWN` seconds. While they cannot be read, those that are there serve.

    Args:
        url: `https://`, or `http://` of this machine.
        clock: gives seconds.

    Raises:
        InvalidInput: the URL is of another kind.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        parts = urlsplit(url)
        is_local = parts.hostname in {"localhost", "127.0.0.1", "::1"}
        if parts.scheme != "https" and not (parts.scheme == "http" and is_local):
            raise InvalidInput(
                f"jwks_url: expected https://, because who changes the keys can take any id, got {url}"
            )
        self._client = jwt.PyJWKClient(url, cache_jwk_set=False, timeout=TIMEOUT)
        self._url = url
        self._clock = clock
        self._keys: list[Key] = []
        self._tried_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def find(self, algorithm: str, id: str | None) -> Sequence[Key]:
        """Return the keys that may verify a token of this `alg` and `kid`.

        Raises:
            PyJWKClientError: no keys have ever been read.
        """
        age = self._clock() - self._tried_at
        if not self._keys:
            await self._read()
        elif age >= LIFETIME:
            self._start_reading()
        found = self._matching(algorithm, id)
        if not found and age >= COOLDOWN:
            await self._read()
            found = self._matching(algorithm, id)
        return found

    def _matching(self, algorithm: str, id: str | None) -> list[Key]:
        return [key for key in self._keys if key.algorithm == algorithm and (id is None or key.id == id)]

    async def _read(self) -> None:
        await asyncio.shield(self._start_reading())

    def _start_reading(self) -> "asyncio.Task[None]":
        if self._reading is None:
            self._tried_at = self._clock()
            self._reading = start(self._refresh())
        return self._reading

    async def _refresh(self) -> None:
        try:
            published = await asyncio.to_thread(self._client.get_signing_keys)
            self._keys = [
                Key(key.key, key.algorithm_name, key.key_id)
                for key in published
                if key.algorithm_name in PUBLIC_ALGORITHMS
            ]
        except (jwt.PyJWTError, ValueError, OSError) as error:
            if not self._keys:
                raise
            log.warning("the keys for tokens stay as they are, %s cannot be read: %s", self._url, error)
        finally:
            self._reading = None
