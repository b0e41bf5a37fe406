"""Our server in Starlette and uvicorn, as an application would mount it; without compression, as `ours`."""

import logging

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from .orders import obey_orders, run
from .ours import everybody, server, single


async def main() -> None:
    app = Starlette(routes=[Mount("/", server)])
    config = uvicorn.Config(
        app, port=0, lifespan="off", log_level=logging.WARNING, ws_per_message_deflate=False
    )
    config.load()
    carrier = uvicorn.Server(config)
    carrier.lifespan = config.lifespan_class(config)
    async with server:
        await carrier.startup()
        port = carrier.servers[0].sockets[0].getsockname()[1]
        await obey_orders(port, {"everybody": everybody, "single": single})


run(main)
