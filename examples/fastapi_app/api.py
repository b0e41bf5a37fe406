"""A REST API that sends to users, whichever server they are connected to."""

import os
from typing import Annotated
from uuid import UUID

from callers import Caller
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, StringConstraints

from mesa_ws import BackendError, Message
from mesa_ws.contrib.fastapi import Dispatching, dispatcher_lifespan

REDIS = os.environ.get("REDIS", "redis://localhost:6379")

app = FastAPI(lifespan=dispatcher_lifespan(REDIS, namespace="shop", sync=True))

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
