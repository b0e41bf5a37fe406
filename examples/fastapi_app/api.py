"""A REST API that sends to users, whichever server they are connected to."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

from callers import Caller
from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, StringConstraints

from mesa_ws import AsyncDispatcher, BackendError, Message


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, AsyncDispatcher]]:
    redis = os.environ.get("REDIS", "redis://localhost:6379")
    async with AsyncDispatcher(redis, namespace="shop", sync=True) as dispatcher:
        yield {"dispatcher": dispatcher}


app = FastAPI(lifespan=lifespan)


def dispatcher_of(request: Request) -> AsyncDispatcher:
    dispatcher: AsyncDispatcher = request.state.dispatcher
    return dispatcher


Dispatching = Annotated[AsyncDispatcher, Depends(dispatcher_of)]
UserId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]  # never `*`, everybody


class Note(BaseModel):
    """What one user tells others."""

    to: list[UserId]
    text: str


@app.post("/notes/{number}", status_code=202)
async def send_note(number: UUID, note: Note, caller: Caller, dispatcher: Dispatching) -> dict[str, bool]:
    """Send a note; a call that is repeated after an error sends it once."""
    message = Message(0, {"from": caller, "text": note.text}, "NOTE")
    try:
        receipt = await dispatcher.dispatch(message, note.to, idempotency_key=f"{caller}-{number}")
    except BackendError as error:
        raise HTTPException(503, "try again") from error
    return {id: delivery.online > 0 for id, delivery in receipt.deliveries.items()}


@app.get("/online/{id}")
async def online(id: UserId, _: Caller, dispatcher: Dispatching) -> int:
    """On how many devices a user is."""
    return (await dispatcher.presence.online([id])).get(id, 0)
