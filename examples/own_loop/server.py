"""A server and its dispatch API in an event loop of your own."""

import asyncio
import os

from mesa_ws import Connection, Server, User, serve
from mesa_ws.http_server.server import DispatchApi

server = Server()


@server.authenticator
async def authenticate(data: dict[str, str], _: Connection) -> User:
    return User(data["id"])  # accepts every client: put your own check here


async def main() -> None:
    port, api_port = int(os.environ.get("PORT", "4000")), int(os.environ.get("API_PORT", "4001"))
    api = DispatchApi(server, key=os.environ["MESA_API_KEY"], port=api_port)
    async with serve(server, "127.0.0.1", port, api) as endpoint:
        print("clients at", endpoint.url, "dispatch at", api.url, flush=True)
        await asyncio.Event().wait()  # or whatever else this process does


if __name__ == "__main__":
    asyncio.run(main())
