"""Authentication of calls to the REST API, by a token."""

from typing import Annotated

import jwt
from fastapi import Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from tokens import user_of


def caller_of(given: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> str:
    try:
        return user_of(given.credentials)
    except jwt.InvalidTokenError as error:
        raise HTTPException(401, "log in again") from error


Caller = Annotated[str, Depends(caller_of)]
