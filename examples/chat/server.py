"""Where clients connect. It knows who they are, and leaves what they say to portals."""

import os

from mesa_ws import Connection, Server, User

server = Server(os.environ.get("REDIS", "redis://localhost:6379"), namespace="chat", portals=True)


@server.authenticator
async def authenticate(data: dict[str, str], _: Connection) -> User:
    return User(data["id"])  # check a token here


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "4000"))
    server.run(port=port, on_start=lambda endpoint: print("clients at", endpoint.url, flush=True))
