"""A person at a terminal: python client.py NAME ROOM. Each line that is typed is said in the room."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import suppress

from mesa_ws import Client, Message


async def listen(client: Client) -> None:
    async for message in client:
        match message.type, message.data:
            case "HISTORY", list(said):
                for each in said:
                    print(f"{each['author']}: {each['text']}", flush=True)
            case "JOINED", {"id": id}:
                print("*", id, "is here", flush=True)
            case "SAID", {"author": author, "text": text}:
                print(f"{author}: {text}", flush=True)
            case "ANNOUNCED", {"text": text}:
                print("!", text, flush=True)


async def typed() -> AsyncIterator[str]:
    """Each line as it is typed; read by the event loop, for a thread would keep Ctrl-C waiting."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    async for line in reader:
        yield line.decode().strip()


async def talk(client: Client, room: str) -> None:
    await client.send(Message(0, {"room": room}, "JOIN"))
    async for line in typed():
        await client.send(Message(0, {"room": room, "text": line}, "SAY"))


async def main(name: str, room: str) -> None:
    async with Client(os.environ.get("URL", "ws://localhost:4000")) as client:
        await client.authenticate({"id": name})
        listening = asyncio.create_task(listen(client))
        await talk(client, room)
        listening.cancel()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):  # Ctrl-C is how one leaves
        asyncio.run(main(*sys.argv[1:]))
