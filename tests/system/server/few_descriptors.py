"""A server, with its dispatch API, in a process that may open few files.

Arguments: the event loop, `asyncio` or `uvloop`; how many files it may open in the end.
Prints one JSON object when it listens. On SIGUSR1 it prints the CPU seconds it has used.
"""

import asyncio
import json
import logging
import resource
import signal
import sys
import time

import uvloop

from mesa_ws import Connection, Message, Server, User, serve
from mesa_ws.http_server.server import DispatchApi
from mesa_ws.transports import listening

KEY = "0123456789abcdef"


async def main(files: int) -> None:
    server = Server()

    @server.authenticator
    async def authenticate(data: dict[str, str], connection: Connection) -> User:
        return User(data["id"])

    @server.on_message
    async def echo(message: Message, connection: Connection) -> None:
        connection.send(message)

    api = DispatchApi(server, key=KEY, port=0)
    async with serve(server, "127.0.0.1", 0, api) as endpoint:
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGUSR1, lambda: print(time.process_time(), flush=True)
        )
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
        print(json.dumps({"url": endpoint.url, "api": api.url}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG)
    listening.RETRY = 0.1  # as often as a test has patience for
    factory = uvloop.new_event_loop if sys.argv[1] == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main(int(sys.argv[2])))
