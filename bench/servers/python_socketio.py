"""python-socketio's server: each client is in a room that has its id.

The argument is the URL of a Redis, if any.
"""

import asyncio
import sys
from typing import Any

import socketio

from .asgi import serve
from .orders import run

manager = socketio.AsyncRedisManager(sys.argv[1]) if len(sys.argv) > 1 else None
server = socketio.AsyncServer(
    async_mode="asgi",
    client_manager=manager,
    transports=["websocket"],
    cors_allowed_origins="*",
    ping_interval=3600,
)


@server.event
async def connect(sid: str, environ: dict[str, Any], auth: dict[str, str]) -> None:
    await server.enter_room(sid, auth["id"])


async def everybody(messages: int, data: Any, type: str, each: int = 1) -> None:
    for _turn in range(messages // each):
        for _ in range(each):
            await server.emit(type, data)
        await asyncio.sleep(0)


async def main() -> None:
    await serve(socketio.ASGIApp(server), {"everybody": everybody})


run(main)
