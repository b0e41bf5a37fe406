"""A REST API and a Mesa server in one process and one event loop, without Redis."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import jwt
from callers import Caller
from fastapi import FastAPI
from tokens import user_of

from mesa_ws import Connection, Message, Refused, Server, User, serve

server = Server(sync=True, authentication={"required": True})


@server.authenticator
async def authenticate(data: dict[str, str], _: Connection) -> User:
    try:
        return User(user_of(data["token"]))
    except (KeyError, TypeError, jwt.InvalidTokenError) as error:
        raise Refused("log in again") from error


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with serve(server, "127.0.0.1", int(os.environ.get("MESA_PORT", "4000"))):
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/alerts", status_code=202)
async def alert(text: str, caller: Caller) -> None:
    """Send a message to every client."""
    await server.send(Message(0, {"from": caller, "text": text}, "ALERT"))
