"""Where events for portals cannot be more durable than memory."""

from collections.abc import Mapping
from typing import Any

import pytest

from mesa_ws import InvalidSettings, MemoryHub, Portal, Server, Unsupported, serve
from mesa_ws.backend.base import Membership
from mesa_ws.backend.mesa1 import Mesa1Backend
from mesa_ws.settings import Portals


@pytest.mark.parametrize(
    ("url", "options", "text"),
    [
        (MemoryHub(), {}, "end with it, use Redis for more"),
        ("redis://localhost", {"wire": "mesa1"}, "report_all_events or wire 'mesa1'"),
        ("redis://localhost", {"report_all_events": True}, "report_all_events or wire 'mesa1'"),
    ],
)
def test_a_portal_says_so_at_once(url: Any, options: Mapping[str, Any], text: str) -> None:
    with pytest.raises(
        Unsupported, match=f"^durability: expected 'memory'.*, got 'replicated'; .*{text}|{text}"
    ):
        Portal(url, durability="replicated", **options)


async def test_a_server_without_redis_says_so_when_it_starts() -> None:
    server = Server(portals={"enabled": True, "durability": "fsync"})
    with pytest.raises(
        Unsupported, match=r"^portals\.durability: expected 'memory', got 'fsync'; .*use Redis"
    ):
        async with serve(server):
            pass


async def test_a_server_of_the_wire_of_1x_says_so_when_it_starts() -> None:
    membership = Membership(durability="replicated")
    with pytest.raises(Unsupported, match=r"^portals\.durability: .*wire 'mesa1' keeps no events"):
        await Mesa1Backend("redis://localhost").open(lambda envelope: None, membership=membership)


async def test_durability_matters_only_with_portals() -> None:
    async with serve(Server(portals={"durability": "replicated"})):
        pass


EXPECTED = "durability: expected 'memory', 'fsync' or 'replicated', got 'disk'"


@pytest.mark.parametrize("make", [Portals, Portal])
def test_a_durability_that_does_not_exist_is_named(make: Any) -> None:
    with pytest.raises(InvalidSettings, match=EXPECTED):
        make(durability="disk")
