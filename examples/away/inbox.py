"""A client that may be away, or be killed, and gets what it missed when it is back."""

import asyncio
import sys

from mesa_ws import Client, FilePositions, Message


async def main(id: str, file: str, url: str = "ws://127.0.0.1:4000") -> None:
    client = Client(url, positions=FilePositions(file))

    @client.on_connected
    def connected(_: object) -> None:
        print("connected", flush=True)

    @client.on_message
    def handle(message: Message) -> None:
        print(message.type, message.data, flush=True)

    @client.on_lost
    def lost(number: int) -> None:
        print(number, "messages were dropped before this client came for them", flush=True)

    @client.on_reset
    def reset() -> None:
        print("nobody knows what is missing; load everything anew", flush=True)

    async with client:
        await client.authenticate({"id": id})
        await client.wait_closed()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
