"""Tabs behind nginx lose nothing while everything breaks that may break."""

import json
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest

from tests.browser.bundles import CLIENT as PACKAGE
from tests.browser.bundles import bundle
from tests.browser.chromium import Windows
from tests.browser.web import Web
from tests.closing_report import ClosingReport
from tests.interop.npm_packages import Unavailable, node

from . import faults
from .faults import Fault, together
from .site import Site
from .storm import storm, table
from .tabs import CLIENT, FOLDER, Client, NodeClient, Tab

SHORT: Sequence[Fault] = (
    faults.tab_reloaded,
    faults.first_server_killed,
    faults.network_silent,
    faults.leader_asleep,
    faults.redis_killed,
    faults.network_cut,
    faults.leader_reloaded,
    faults.both_servers_killed,
    faults.redis_emptied,
    faults.servers_replaced,
)
"""One fault of each main kind."""

TABS = (
    ("ann", "session"),
    ("ann", "session"),
    ("ann", "local"),
    ("ann", "local"),
    ("bob", "session"),
    ("bob", "local"),
)
"""User of each tab, and the storage of its position."""


class ClientFactory:
    """Opens the clients of a storm.

    Args:
        windows: windows of the browser.
        web: server of the pages.
        folder: folder to build a module in.
        config: for the report of clients that are missing.
    """

    def __init__(self, windows: Windows, web: Web, folder: Path, config: pytest.Config) -> None:
        self._windows = windows
        self._web = web
        self._folder = folder
        self._config = config
        windows.expect("WebSocket connection to")
        for name in ("tab.html", "tab.js"):
            web.add(f"/{name}", (FOLDER / name).read_text())

    async def open(self, site: Site, stack: AsyncExitStack) -> list[Client]:
        """Open all tabs, those of one user in one browser, and a client in Node."""
        modules = {"": CLIENT}
        try:
            bundle(PACKAGE / "src/shared/whole.ts", self._folder / "shared.mjs")
            modules["shared, "] = self._folder / "shared.mjs"
        except pytest.skip.Exception as why:
            self._tell(f"no tabs that share a connection took part: {why}")
        clients = [
            client for kind, module in modules.items() for client in await self._tabs(kind, module, site)
        ]
        try:
            clients.append(await stack.enter_async_context(NodeClient.running(node(), "ann", site.url)))
        except Unavailable as why:
            self._tell(f"no client in Node took part: {why}")
        return clients

    async def _tabs(self, kind: str, module: Path, site: Site) -> list[Client]:
        path = f"/{module.stem}"
        self._web.mount(path, module.parent)
        page = f"{self._web.url}/tab.html"
        contexts = {user: await self._windows.open() for user, _ in TABS}
        clients: list[Client] = []
        for number, (user, positions) in enumerate(TABS, 1):
            options = {"url": site.url, "client": f"{path}/{module.name}", "positions": positions}
            name = f"{kind}{user}, tab {number}, {positions}"
            clients.append(await Tab.open(name, user, contexts[user], page, **options))
        return clients

    def _tell(self, line: str) -> None:
        ClosingReport.of(self._config).add("faults", line)


ALL: Sequence[Fault] = (
    *SHORT,
    faults.second_server_killed,
    faults.network_silent_to_servers,
    faults.network_silent_to_tabs,
    faults.tab_asleep,
    together(faults.redis_killed, faults.second_server_killed),
    together(faults.redis_killed, faults.network_cut),
    together(faults.redis_emptied, faults.first_server_killed),
    together(faults.leader_asleep, faults.servers_replaced),
    together(faults.tab_reloaded, faults.both_servers_killed),
)

ONCE: Sequence[Fault] = (faults.tab_asleep_for_long, faults.leader_asleep_for_long)

ROUNDS = 5
"""Number of repetitions of each fault of `ALL` in the long version."""


async def run_storm(
    factory: ClientFactory, folder: Path, config: pytest.Config, plan: Sequence[Fault], dice: Random
) -> None:
    """Inject faults, print a table at the end of the run, and fail where a promise was broken.

    The notes of all clients are in `notes.json` of the folder then.
    """
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(Site.standing(folder))
        clients = await factory.open(site, stack)
        found, behind = await storm(site, clients, plan, dice)
        notes = {client.name: await client.notes() for client in clients}
    (folder / "notes.json").write_text(json.dumps({"flushes": site.flushes, **notes}))
    title = f"clients in a browser and in Node, {len(plan)} faults:"
    ClosingReport.of(config).add("faults", title, *table(found), *behind)
    broken = [f"{client.name}: {', '.join(verdict.faults)}" for client, verdict in found if verdict.faults]
    assert not [*broken, *behind]


@pytest.fixture
def factory(windows: Windows, web: Web, tmp_path: Path, pytestconfig: pytest.Config) -> ClientFactory:
    return ClientFactory(windows, web, tmp_path, pytestconfig)


@pytest.mark.timeout(180)
async def test_tabs_lose_nothing_whatever_breaks(
    factory: ClientFactory, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    await run_storm(factory, tmp_path, pytestconfig, SHORT, Random(1))


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not os.environ.get("MESA_CHAOS_SECONDS"), reason="for make chaos: it takes some minutes")
async def test_tabs_lose_nothing_however_often_it_breaks(
    factory: ClientFactory, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    dice = Random(os.environ.get("MESA_CHAOS_SEED") or None)
    plan = [*ONCE, *(fault for _ in range(ROUNDS) for fault in dice.sample(ALL, len(ALL)))]
    await run_storm(factory, tmp_path, pytestconfig, plan, dice)
