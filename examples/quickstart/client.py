"""A client that prints what it receives."""

import asyncio
import sys

from mesa_ws import Client


async def main(id: str, url: str = "ws://127.0.0.1:4000") -> None:
    async with Client(url) as client:
        user = await client.authenticate({"id": id, "token": "let me in"})
        print("connected as", user["id"], flush=True)
        async for message in client:
            print(message.type, message.data, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
