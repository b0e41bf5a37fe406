"""`disconnect`, `revoke` and what has become of them, through the HTTP API, by both dispatchers."""

import time
from typing import Any

import pytest

from mesa_ws import OrderStatus, Position
from mesa_ws.backend.http.exchange import HttpApi
from mesa_ws.backend.memory import MemoryBackend
from mesa_ws.backend.outbox import Standing
from mesa_ws.backend.queries import Query
from mesa_ws.errors import InvalidInput, InvalidRecipients, Unsupported
from mesa_ws.messages.order import Order
from tests.http_site import FailingBus, Site

from .conftest import Asking


def orders(site: Site) -> list[Order | None]:
    return [Order.read(envelope.body) for envelope in site.received]


async def test_an_order_is_carried_out_and_the_receipt_and_later_the_status_say_so(
    site: Site, dispatcher: Asking
) -> None:
    receipt = await dispatcher("disconnect", ["0", "1"], 4100, "out", idempotency_key="k")
    assert (receipt.position.sequence, receipt.done, receipt.pending) == (1, (site.memory.node_id,), ())
    assert await dispatcher("disconnect", ["0", "1"], 4100, "out", idempotency_key="k") == receipt
    assert orders(site) == [Order(("0", "1"), 4100, "out")]
    assert site.received[0].message_id == receipt.message_id
    assert await dispatcher("status", receipt) == OrderStatus((site.memory.node_id,), ())
    later = receipt._replace(position=Position(receipt.position.epoch, 2))
    assert await dispatcher("status", later) == OrderStatus((), (site.memory.node_id,))


async def test_a_revocation_has_its_time_or_now(site: Site, dispatcher: Asking) -> None:
    before = time.time()
    receipt = await dispatcher("revoke", ["0"])
    until = (await site.memory.standing("0")).revoked_until
    assert until is not None
    assert before <= until <= time.time()
    last = await dispatcher("revoke", ["1"], 7.5, 4100, "out")
    assert await site.memory.standing("1") == Standing(7.5, last.position)
    assert orders(site) == [Order(("0",), 1008, "", until), Order(("1",), 4100, "out", 7.5)]
    assert (receipt.position.sequence, last.position.sequence) == (1, 2)


async def test_servers_that_are_cut_off_are_pending_and_waited_for_once(
    site: Site, dispatcher: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries: list[Query[Any]] = []
    original = HttpApi.query

    def ask(api: HttpApi, query: Query[Any]) -> Any:
        queries.append(query)
        return original(api, query)

    monkeypatch.setattr(HttpApi, "query", ask)
    away = MemoryBackend(site.memory.hub, namespace=site.namespace)
    await away.open(lambda envelope: None)
    receipt = await dispatcher("disconnect", ["0"])
    assert (receipt.done, receipt.pending) == ((site.memory.node_id,), (away.node_id,))
    assert len(queries) == 1  # the server that answers has waited
    away.carried_out(receipt.position)
    assert (await dispatcher("status", receipt)).pending == ()
    await away.aclose()


async def test_what_is_wrong_is_found_before_it_is_sent(site: Site, dispatcher: Asking) -> None:
    with pytest.raises(InvalidRecipients, match="the bare text '0'"):
        await dispatcher("disconnect", "0")
    with pytest.raises(InvalidInput, match="issued_before: expected seconds since 1970"):
        await dispatcher("revoke", ["0"], "now")
    site.bus = FailingBus(Unsupported("wire 'mesa1' has none"))
    for name in ("disconnect", "revoke"):
        with pytest.raises(Unsupported, match="wire 'mesa1' has none"):
            await dispatcher(name, ["0"])
    assert site.received == []
