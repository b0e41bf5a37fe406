"""The Flask application and the Celery tasks: what they dispatch arrives at users, once."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

from mesa_ws import Client
from tests.examples.programs import LIMIT, Programs, line
from tests.ports import free_port
from tests.redis_server import RedisServer

EXAMPLES = Path(__file__).parents[2] / "examples"


async def posted(url: str, **form: str) -> bytes:
    """POST, and repeat until the server listens."""
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                return await asyncio.to_thread(lambda: urlopen(url, urlencode(form).encode(), LIMIT).read())
            except OSError:
                await asyncio.sleep(0.05)


async def statuses(client: Client, count: int) -> list[tuple[object, str]]:
    async with asyncio.timeout(LIMIT):
        return [
            (message.data["order"], message.data["status"])
            for message in [await anext(client) for _ in range(count)]
        ]


async def test_both_reach_a_user_each_message_once(programs: Programs, own_redis: RedisServer) -> None:
    port = free_port()
    options = ("--redis", own_redis.url, "--namespace", "shop", "--insecure-demo-auth")
    server = await programs.start("-m", "mesa_ws", "serve", "--json", "--no-api", "--port", "0", *options)
    flask = ("-m", "flask", "--app", str(EXAMPLES / "flask_app/shop"), "run", "--port", str(port))
    await programs.start(*flask, FLASK_MESA__url=own_redis.url)
    celery = ("-m", "celery", "--workdir", str(EXAMPLES / "celery_tasks"), "--app", "tasks")
    await programs.start(*celery, "worker", "--pool", "solo", "--loglevel", "WARNING", REDIS=own_redis.url)
    async with Client(json.loads(await line(server))["url"]) as anna:
        await anna.authenticate({"id": "anna"})
        ship = f"http://127.0.0.1:{port}/orders/7/ship"
        assert await posted(ship, owner="anna") == b'{"online":true,"sent":true}\n'
        await posted(ship, owner="anna")
        assert await statuses(anna, 1) == [("7", "shipped")]
        call = [sys.executable, *celery, "call", "tasks.ship", "--args", '[8, "anna"]']
        await asyncio.to_thread(
            subprocess.run, call, env={**os.environ, "REDIS": own_redis.url}, timeout=LIMIT, check=True
        )
        assert await statuses(anna, 3) == [(8, "packed"), (8, "handed over"), (8, "shipped")]
