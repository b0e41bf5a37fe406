"""An ASGI application in uvicorn, under orders."""

import logging
from collections.abc import Mapping
from typing import Any

import uvicorn

from .orders import Obey, obey_orders


async def serve(app: Any, orders: Mapping[str, Obey]) -> None:
    """Serve an application, without compression, and obey orders until standard input ends."""
    config = uvicorn.Config(
        app,
        port=0,
        lifespan="off",
        log_level=logging.WARNING,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
    )
    config.load()
    carrier = uvicorn.Server(config)
    carrier.lifespan = config.lifespan_class(config)
    await carrier.startup()
    await obey_orders(carrier.servers[0].sockets[0].getsockname()[1], orders)
