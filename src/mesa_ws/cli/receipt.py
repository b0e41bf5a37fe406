"""A receipt, for people and for programs."""

from typing import Any

from rich.table import Table

from ..envelope import Delivery, Receipt
from .output import console, plain


def receipt_document(receipt: Receipt, at: float, took_ms: float) -> dict[str, Any]:
    """The receipt as JSON holds it.

    Args:
        receipt: what the dispatch did.
        at: when it began, in seconds since 1970.
        took_ms: until the receipt was there, in milliseconds.
    """
    return {
        "message_id": receipt.message_id,
        "nodes": receipt.nodes,
        "deliveries": {id: delivery._asdict() for id, delivery in receipt.deliveries.items()},
        "dispatched_at": at,
        "took_ms": round(took_ms, 3),
    }


def print_receipt(receipt: Receipt, took_ms: float) -> None:
    """Print the receipt as a table, one row an id."""
    output = console()
    if receipt.deliveries:
        table = Table("id", "connections", "result")
        for id, delivery in receipt.deliveries.items():
            table.add_row(plain(id), str(delivery.online), _result(delivery))
        output.print(table)
    nodes = "1 server" if receipt.nodes == 1 else f"{receipt.nodes} servers"
    output.print(f"message {receipt.message_id} handed to {nodes} in {took_ms:.1f} ms")


def _result(delivery: Delivery) -> str:
    if delivery.dropped is not None:
        return f"dropped: {delivery.dropped}"
    return "stored" if delivery.stored else "sent"
