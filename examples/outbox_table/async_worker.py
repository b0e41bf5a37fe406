"""The worker of `worker.py` in an event loop, by itself or as a task of an application."""

import asyncio
import logging
import os

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from tables import pending

from mesa_ws import AsyncDispatcher, InvalidInput, MesaError, Message

log = logging.getLogger("shop")
dispatcher = AsyncDispatcher(os.environ.get("MESA_URL", "redis://localhost:6379"), sync=True)


async def dispatch_pending(session: AsyncSession, limit: int = 100) -> int:
    """Dispatch the next messages in order, and delete each that Redis has."""
    rows = (await session.scalars(pending(limit))).all()
    try:
        for row in rows:
            try:
                message = Message(0, row.data, row.type)
                await dispatcher.dispatch(message, row.recipients, idempotency_key=row.key)
                await session.delete(row)
            except InvalidInput as error:  # will never be dispatched; the others go on
                row.error = str(error)
    finally:
        await session.commit()
    return len(rows)


async def run(database: str) -> None:
    engine = create_async_engine(database)
    while True:
        try:
            async with AsyncSession(engine) as session:
                found = await dispatch_pending(session)
        except (MesaError, SQLAlchemyError):
            log.exception("trying again in a second; nothing is lost")
            await asyncio.sleep(1)
        else:
            await asyncio.sleep(0 if found else 0.1)


if __name__ == "__main__":
    asyncio.run(run(os.environ["DATABASE_URL"]))
