"""Long outboxes come in pages."""

from mesa_ws.backend.outbox import Page, Read
from mesa_ws.messages.receipt import Position
from tests.contract.cluster import Cluster, Node
from tests.contract.storing import attach, bodies, kept, read, sent_bodies, store

KIB = 1024


async def read_on(node: Node, page: Page) -> list[Page]:
    """Return all pages, from a first one on."""
    pages = [page]
    while page.has_more:
        page = await read(node, page.epoch, page.last)
        pages.append(page)
    return pages


async def test_a_page_holds_so_many_messages_and_the_next_goes_on(cluster: Cluster) -> None:
    node = await cluster.node()
    sent = await store(node, 600)
    pages = await read_on(node, await attach(node))
    assert [len(page.entries) for page in pages] == [256, 256, 88]
    assert [body for page in pages for body in bodies(page)] == sent_bodies(sent)
    assert [page.status for page in pages] == ["fresh", "resumed", "resumed"]
    assert {(page.top, page.lost) for page in pages} == {(600, 0)}


async def test_a_page_holds_so_many_bytes(cluster: Cluster) -> None:
    node = await cluster.node()
    await store(node, 5, size=100 * KIB)
    assert [len(page.entries) for page in await read_on(node, await attach(node))] == [2, 2, 1]


async def test_a_message_larger_than_a_page_has_one_of_its_own(cluster: Cluster) -> None:
    node = await cluster.node()
    await node.backend.dispatch([kept(n, size=size * KIB) for n, size in enumerate((300, 1, 300, 300))])
    assert [len(page.entries) for page in await read_on(node, await attach(node))] == [1, 1, 1, 1]


async def test_messages_sent_between_two_pages_are_read(cluster: Cluster) -> None:
    node = await cluster.node()
    await store(node, 300)
    first = await attach(node)
    await store(node, 10)
    assert [page.last for page in await read_on(node, first)] == [256, 310]


async def test_the_outboxes_of_many_ids_are_read_at_once(cluster: Cluster) -> None:
    ids = [f"id-{n}" for n in range(450)]
    node = await cluster.node(dict.fromkeys(ids, 1))
    [receipt] = await node.backend.dispatch([kept(1, ids)])
    epochs = {id: at.position.epoch for id, at in receipt.deliveries.items() if at.position}
    pages = await node.backend.read([Read(id, Position(epochs[id], n % 2)) for n, id in enumerate(ids)])
    assert [page.epoch for page in pages] == list(epochs.values())
    assert [len(page.entries) for page in pages] == [1, 0] * 225


async def test_ids_left_out_of_a_full_reply_are_read_later(cluster: Cluster) -> None:
    ids = [f"id-{n}" for n in range(40)]
    node = await cluster.node(dict.fromkeys(ids, 1))
    [receipt] = await node.backend.dispatch([kept(1, ids, size=200 * KIB)])
    missing = {id: at.position.epoch for id, at in receipt.deliveries.items() if at.position}
    for _ in range(40):
        pages = await node.backend.read([Read(id, Position(epoch, 0)) for id, epoch in missing.items()])
        done = {id for id, page in zip(missing, pages, strict=True) if page.entries}
        assert all(page.has_more for page in pages if not page.entries)
        missing = {id: epoch for id, epoch in missing.items() if id not in done}
        if not missing:
            break
    assert missing == {}


async def test_no_reads_give_no_pages(cluster: Cluster) -> None:
    assert await (await cluster.node()).backend.read([]) == []
