"""Who a caller is: one token for the REST API and for the WebSocket."""

import os

import jwt

SECRET = os.environ["SECRET"]


def user_of(token: str) -> str:
    """The user that a token was made for.

    Raises:
        jwt.InvalidTokenError: it is none of ours, or it has expired.
    """
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], options={"require": ["sub", "exp"]})
    return str(claims["sub"])
