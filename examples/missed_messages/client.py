"""A client that goes on where it was, also when it is started again: python client.py ID [URL [FILE]]"""

import asyncio
import sys

from mesa_ws import Client, FilePositions


async def main(id: str, url: str = "ws://localhost:4000", file: str = "positions") -> None:
    client = Client(url, positions=FilePositions(file))

    @client.on_lost
    def lost(number: int) -> None:
        print(number, "messages were dropped while this client was away", flush=True)

    @client.on_forked
    def forked() -> None:
        print("messages may be missing: Redis failed", flush=True)

    @client.on_reset
    def reset() -> None:
        print("messages may be missing, or come again", flush=True)

    async with client:
        await client.authenticate({"id": id})
        print("connected as", id, flush=True)
        async for message in client:
            print(message.type, message.data, flush=True)


asyncio.run(main(*sys.argv[1:]))
