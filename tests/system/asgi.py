"""A server as an ASGI application in uvicorn, in the event loop of the test."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import uvicorn

from mesa_ws.transports.run import Endpoint, Server, serve

Serve = Callable[..., AbstractAsyncContextManager[Endpoint]]

LANE = "asgi"
"""Name of the tests' third lane, beside the two event loops: uvloop, uvicorn."""


def serve_of(request: pytest.FixtureRequest) -> Serve:
    """How servers of a test are served: over ASGI in that lane."""
    lanes = getattr(request.node, "callspec", None)
    return serve_asgi if lanes is not None and LANE in lanes.id.split("-") else serve


@asynccontextmanager
async def serve_asgi(server: Server, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Endpoint]:
    """What `serve` does, over ASGI."""
    async with server, uvicorn_of(server, host, port) as bound:
        try:
            yield Endpoint(f"ws://{host}:{bound}/", host, bound)
        finally:
            await server.stop()  # uvicorn would close the connections before


@asynccontextmanager
async def uvicorn_of(app: Any, host: str = "127.0.0.1", port: int = 0, **options: Any) -> AsyncIterator[int]:
    """Serve an application; yields the port."""
    quiet: dict[str, Any] = {"log_config": None, "log_level": logging.CRITICAL, "access_log": False}
    quiet |= {"ws_ping_interval": None, "ws_per_message_deflate": False, "lifespan": "off"}
    loggers = [logging.getLogger(f"uvicorn.{name}") for name in ("error", "access", "asgi")]
    before = [(each, each.level, each.propagate, each.handlers) for each in loggers]
    config = uvicorn.Config(app, host, port, **quiet | options)  # changes them, for the whole process
    running = uvicorn.Server(config)
    config.load()
    running.lifespan = config.lifespan_class(config)
    await running.startup()
    try:
        yield running.servers[0].sockets[0].getsockname()[1]
    finally:
        await running.shutdown()
        for each, level, propagate, handlers in before:
            each.setLevel(level)
            each.propagate, each.handlers = propagate, handlers
