"""Dispatch the messages that were committed. Run one; it may be killed at any time."""

import logging
import os
import time

from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from tables import pending

from mesa_ws import Dispatcher, InvalidInput, MesaError, Message

log = logging.getLogger("shop")
dispatcher = Dispatcher(os.environ.get("MESA_URL", "redis://localhost:6379"), sync=True)


def dispatch_pending(session: Session, limit: int = 100) -> int:
    """Dispatch the next messages in order, and delete each that Redis has.

    What is interrupted between the two is dispatched again, under the same key: it arrives once.
    """
    rows = session.scalars(pending(limit)).all()
    try:
        for row in rows:
            try:
                message = Message(0, row.data, row.type)
                dispatcher.dispatch(message, row.recipients, idempotency_key=row.key)
                session.delete(row)
            except InvalidInput as error:  # will never be dispatched; the others go on
                row.error = str(error)
    finally:
        session.commit()
    return len(rows)


def run(database: str) -> None:
    engine = create_engine(database)
    while True:
        try:
            with Session(engine) as session:
                found = dispatch_pending(session)
        except (MesaError, SQLAlchemyError):
            log.exception("trying again in a second; nothing is lost")
            time.sleep(1)
        else:
            time.sleep(0 if found else 0.1)


if __name__ == "__main__":
    run(os.environ["DATABASE_URL"])
