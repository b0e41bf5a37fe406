"""Tabs of real users behind nginx, while everything breaks that may break, lose nothing."""

import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.browser.chromium import Windows
from tests.browser.web import Web
from tests.closing_report import ClosingReport
from tests.interop.npm_packages import Unavailable, node

from . import faults
from .faults import Fault
from .site import Site
from .storm import storm, table
from .tabs import CLIENT, FOLDER, Client, NodeClient, Tab

SHORT: Sequence[Fault] = (
    faults.tab_reloaded,
    faults.first_server_killed,
    faults.network_silent,
    faults.tab_asleep,
    faults.redis_killed,
    faults.network_cut,
    faults.both_servers_killed,
    faults.redis_emptied,
    faults.servers_replaced,
)
"""One of each main kind."""

TABS = (
    ("ann", "session"),
    ("ann", "session"),
    ("ann", "local"),
    ("ann", "local"),
    ("bob", "session"),
    ("bob", "local"),
)
"""Who has a tab, and where it keeps its position."""


async def enter(
    site: Site, windows: Windows, web: Web, stack: AsyncExitStack, config: pytest.Config
) -> list[Client]:
    """Open all tabs, those of one user in one browser, and have Node besides; without it, say so."""
    windows.expect("WebSocket connection to")
    web.mount("/client", CLIENT.parent)
    for name in ("tab.html", "tab.js"):
        web.add(f"/{name}", (FOLDER / name).read_text())
    contexts = {user: await windows.open() for user in ("ann", "bob")}
    clients: list[Client] = []
    for number, (user, positions) in enumerate(TABS, 1):
        options: Any = {"url": site.url, "client": f"/client/{CLIENT.name}", "positions": positions}
        name = f"{user}, tab {number}, {positions}"
        clients.append(await Tab.open(name, user, contexts[user], f"{web.url}/tab.html", **options))
    try:
        program = node()
    except Unavailable as why:
        ClosingReport.of(config).add("faults", f"no client in Node took part: {why}")
    else:
        clients.append(await stack.enter_async_context(NodeClient.running(program, "ann", site.url)))
    return clients


ALL: Sequence[Fault] = (
    *SHORT,
    faults.second_server_killed,
    faults.network_silent_to_servers,
    faults.network_silent_to_tabs,
)

ROUNDS = 5
"""How often each fault comes in the long version."""


async def suffer(
    windows: Windows, web: Web, folder: Path, config: pytest.Config, plan: Sequence[Fault], dice: Random
) -> None:
    """Go through faults, have a table printed at the end of the run, and fail where a promise was broken."""
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(Site.standing(folder))
        clients = await enter(site, windows, web, stack, config)
        found = await storm(site, clients, plan, dice)
    ClosingReport.of(config).add(
        "faults", f"clients in a browser and in Node, {len(plan)} faults:", *table(found)
    )
    assert not [f"{client.name}: {', '.join(verdict.faults)}" for client, verdict in found if verdict.faults]


@pytest.mark.timeout(180)
async def test_tabs_lose_nothing_whatever_breaks(
    windows: Windows, web: Web, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    await suffer(windows, web, tmp_path, pytestconfig, SHORT, Random(1))


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not os.environ.get("MESA_CHAOS_SECONDS"), reason="for make chaos: it takes some minutes")
async def test_tabs_lose_nothing_however_often_it_breaks(
    windows: Windows, web: Web, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    dice = Random(os.environ.get("MESA_CHAOS_SEED") or None)
    plan = [fault for _ in range(ROUNDS) for fault in dice.sample(ALL, len(ALL))]
    await suffer(windows, web, tmp_path, pytestconfig, plan, dice)
