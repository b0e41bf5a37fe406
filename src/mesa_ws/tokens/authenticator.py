"""An authenticator that accepts signed tokens."""

from typing import Any

import jwt

from ..errors import InvalidRecipients, Refused
from ..messages.recipients import User
from ..server.connection import Connection
from .keys import Keys

LEEWAY = 30.0
"""Seconds that the clocks of those who sign and of the server may differ by."""

_WRONG_KEY = (jwt.InvalidSignatureError, jwt.InvalidKeyError)


class TokenAuthenticator:
    """Accepts `{"token": "..."}` and makes a claim of the token the id of the user, until the token expires.

    The signature, `exp`, `nbf` and `iat` are checked, `aud` and `iss` as asked for. A client with an invalid
    token is refused for good, and not told why; the reason is logged, the token never.

    ```python
    server.authenticator(TokenAuthenticator(JwksKeys("https://id.example.com/jwks.json"), audience="chat"))
    ```

    Args:
        keys: `Secrets`, `PublicKeys` or `JwksKeys`.
        id_claim: the claim that is the id. An integer becomes text: `{"id": 42}` is the user `"42"`.
        audience: the `aud` that tokens have to carry; None refuses those that carry one.
        issuer: the `iss` that tokens have to carry; None for any.
        leeway: seconds for which a token counts before its `nbf` and `iat`, and after its `exp`.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        id_claim: str = "sub",
        audience: str | None = None,
        issuer: str | None = None,
        leeway: float = LEEWAY,
    ) -> None:
        self._keys = keys
        self._id_claim = id_claim
        self._audience = audience
        self._issuer = issuer
        self._leeway = leeway

    async def __call__(self, data: Any, connection: Connection) -> User:
        """Authenticate a client.

        Raises:
            Refused: there is no token, or it is not valid.
        """
        token = data.get("token") if isinstance(data, dict) else None
        if not isinstance(token, str):
            raise Refused('expected the authentication data {"token": "..."}, got no token')
        return self._user(await self.claims(token))

    async def claims(self, token: str) -> dict[str, Any]:
        """Return the claims of a valid token.

        Raises:
            Refused: it is not valid.
            PyJWKClientError: the keys could not be read yet; the client may come back.
        """
        try:
            header = jwt.get_unverified_header(token)
            algorithm, id = header.get("alg"), header.get("kid")
            keys = await self._keys.find(str(algorithm), id)
            problem: Exception = jwt.InvalidAlgorithmError(f"no key for alg {algorithm!r}, kid {id!r}")
            for key in keys:
                try:
                    return self._decode(token, key.key, key.algorithm)
                except _WRONG_KEY as error:
                    problem = error
        except (jwt.InvalidTokenError, RecursionError) as error:
            problem = error
        raise Refused(f"the token is not valid: {problem}") from problem

    def _decode(self, token: str, key: Any, algorithm: str) -> dict[str, Any]:
        return jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=self._audience,
            issuer=self._issuer,
            leeway=self._leeway,
            options={"require": [self._id_claim], "verify_sub": False},
        )

    def _user(self, claims: dict[str, Any]) -> User:
        id, ends, begins = claims[self._id_claim], claims.get("exp"), claims.get("iat")
        if type(id) is int:
            id = str(id)
        try:
            expires_at = None if ends is None else int(ends) + self._leeway
            return User(id, issued_at=None if begins is None else int(begins), expires_at=expires_at)
        except InvalidRecipients as error:
            raise Refused(f"the token's {self._id_claim} cannot be an id: {error}") from error
