"""Dispatch what a SQLAlchemy session has committed, and nothing else; with Redis away, not at all."""

import logging
import os
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from mesa_ws import Dispatch, Dispatcher, MesaError, Message

log = logging.getLogger("shop")
dispatcher = Dispatcher(os.environ.get("MESA_URL", "redis://localhost:6379"), sync=True)


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    total: Mapped[int]


def dispatch_on_commit(session: Session, *dispatch: Any) -> None:
    """Dispatch after the transaction that the session is in, if that is committed."""
    session.info.setdefault("dispatches", []).append(Dispatch(*dispatch))


@event.listens_for(Session, "after_commit")
def send(session: Session) -> None:
    dispatches = session.info.pop("dispatches", [])
    if dispatches:
        try:
            dispatcher.dispatch_many(dispatches)
        except MesaError:  # the rows are saved: commit() must not fail any more
            log.exception("%d messages were not dispatched", len(dispatches))


@event.listens_for(Session, "after_rollback")
def forget(session: Session) -> None:
    session.info.pop("dispatches", None)


def place_order(session: Session, customer: str, total: int) -> Order:
    """Add an order to the transaction, and tell its customer once that is committed."""
    order = Order(customer=customer, total=total)
    session.add(order)
    session.flush()
    message = Message(0, {"order": order.id, "total": order.total}, "ORDER_PLACED")
    dispatch_on_commit(session, message, [order.customer], (), f"order-{order.id}")
    return order
