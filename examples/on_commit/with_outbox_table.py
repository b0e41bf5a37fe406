"""Dispatch what was committed even if the process dies in between: a table of what is to be sent.

The messages are rows of the same transaction. A worker dispatches them in order and deletes each
when it is sure; a row that was dispatched and not deleted is dispatched again under the same key,
and reaches nobody twice.
"""

import json
import os
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from mesa_ws import Dispatcher, Message

dispatcher = Dispatcher(os.environ.get("MESA_URL", "redis://localhost:6379"), sync=True)


class Base(DeclarativeBase):
    pass


class Pending(Base):
    __tablename__ = "pending_messages"

    id: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str]
    data: Mapped[str]
    recipients: Mapped[str]


def dispatch_later(session: Session, type: str, data: Any, recipients: Sequence[str]) -> None:
    """Write a message into the transaction that the session is in."""
    session.add(Pending(type=type, data=json.dumps(data), recipients=json.dumps(recipients)))


def dispatch_pending(session: Session, limit: int = 100) -> int:
    """Dispatch what has been committed; run this in one worker, again and again."""
    rows = session.scalars(select(Pending).order_by(Pending.id).limit(limit)).all()
    for row in rows:
        message = Message(0, json.loads(row.data), row.type)
        dispatcher.dispatch(message, json.loads(row.recipients), idempotency_key=f"pending-{row.id}")
        session.execute(delete(Pending).where(Pending.id == row.id))
        session.commit()
    return len(rows)
