"""Orders, and the messages about them: rows of one transaction, saved together or not at all."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import JSON, Select, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    total: Mapped[int]


class Pending(Base):
    """A message that a worker has to dispatch."""

    __tablename__ = "pending_messages"

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(default=lambda: uuid4().hex)
    type: Mapped[str]
    data: Mapped[Any] = mapped_column(JSON)
    recipients: Mapped[list[str]] = mapped_column(JSON)
    error: Mapped[str | None]


def dispatch_later(session: Session | AsyncSession, type: str, data: Any, recipients: Sequence[str]) -> None:
    """Write a message into the transaction that the session is in."""
    session.add(Pending(type=type, data=data, recipients=list(recipients)))


def pending(limit: int) -> Select[tuple[Pending]]:
    """The next messages to dispatch, oldest first; a second worker waits until they are done."""
    oldest = select(Pending).where(Pending.error.is_(None)).order_by(Pending.id)
    return oldest.limit(limit).with_for_update()


def place_order(session: Session, customer: str, total: int) -> int:
    """Save an order and the message about it."""
    with session.begin():
        order = Order(customer=customer, total=total)
        session.add(order)
        session.flush()  # gives the order its id
        number = order.id
        dispatch_later(session, "ORDER_PLACED", {"order": number, "total": total}, [customer])
    return number


async def place_order_async(session: AsyncSession, customer: str, total: int) -> int:
    """Save an order and the message about it, in an event loop."""
    async with session.begin():
        order = Order(customer=customer, total=total)
        session.add(order)
        await session.flush()
        number = order.id
        dispatch_later(session, "ORDER_PLACED", {"order": number, "total": total}, [customer])
    return number
