"""The server that users are connected to. Run as many as you like."""

import os

import jwt
from tokens import user_of

from mesa_ws import Connection, Refused, Server, User

server = Server(
    os.environ.get("REDIS", "redis://localhost:6379"),
    namespace="shop",
    sync=True,
    authentication={"required": True},
)


@server.authenticator
async def authenticate(data: dict[str, str], _: Connection) -> User:
    try:
        return User(user_of(data["token"]))
    except (KeyError, TypeError, jwt.InvalidTokenError) as error:
        raise Refused("log in again") from error


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "4000"))
    server.run("127.0.0.1", port, on_start=lambda endpoint: print("clients at", endpoint.url, flush=True))
