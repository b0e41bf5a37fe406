"""Django Channels: each client is in a group for all, and in one that has its id.

The argument is the URL of a Redis.
"""

import asyncio
import json
import sys
from typing import Any

from .. import wire
from ..channel_layers import EVERYBODY, configure, event, group_of
from .asgi import serve
from .orders import run

configure(sys.argv[1])

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402  # Django must be configured first
from channels.layers import get_channel_layer  # noqa: E402


class Consumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Greets a client, adds it to its groups, and sends what they get."""

    async def connect(self) -> None:
        await self.accept()
        await self.send(text_data=wire.HELLO.decode())

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        id = json.loads(text_data or "")["d"]["id"]
        await self.channel_layer.group_add(EVERYBODY, self.channel_name)
        await self.channel_layer.group_add(group_of(id), self.channel_name)
        await self.send(text_data=wire.acknowledgement(id).decode())

    async def message(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["body"])


async def everybody(messages: int, each: int = 1, **_: Any) -> None:
    layer = get_channel_layer()
    for _turn in range(messages // each):
        for _message in range(each):
            await layer.group_send(EVERYBODY, event(wire.body()))
        await asyncio.sleep(0)


async def main() -> None:
    await serve(Consumer.as_asgi(), {"everybody": everybody})


run(main)
