"""The REST side: what was said in a room, and announcements to everybody in it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from rooms import Rooms
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from mesa_ws import AsyncDispatcher, Message

dispatcher = AsyncDispatcher(os.environ.get("REDIS", "redis://localhost:6379"), namespace="chat", sync=True)
rooms = Rooms(os.environ.get("DATABASE", "chat.db"))


async def history(request: Request) -> JSONResponse:
    return JSONResponse(await run_in_threadpool(rooms.history, request.path_params["room"]))


async def announce(request: Request) -> JSONResponse:
    room, text = request.path_params["room"], (await request.json())["text"]
    members = await run_in_threadpool(rooms.members, room)
    receipt = await dispatcher.dispatch(Message(0, {"room": room, "text": text}, "ANNOUNCED"), members)
    return JSONResponse({"members": len(receipt.deliveries)}, status_code=202)


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    async with dispatcher:
        yield


app = Starlette(
    routes=[
        Route("/rooms/{room}", history),
        Route("/rooms/{room}/announcements", announce, methods=["POST"]),
    ],
    lifespan=lifespan,
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
