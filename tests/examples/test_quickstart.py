"""The tutorial, step by step: three programs in processes of their own."""

import asyncio

from tests.examples.programs import KEY, LIMIT, Programs, line
from tests.ports import free_port


async def listening(port: int) -> None:
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return


async def test_the_tutorial_works_from_end_to_end(programs: Programs) -> None:
    port, api = free_port(), free_port()
    serve = ("-m", "mesa_ws", "serve", "server:server", "--port", str(port), "--api-port", str(api))
    await programs.start(*serve, MESA_API_KEY=KEY)
    await listening(port)
    await listening(api)
    clients = [await programs.start("client.py", id, f"ws://127.0.0.1:{port}") for id in ("0", "1")]
    assert [await line(client) for client in clients] == ["connected as 0", "connected as 1"]
    notify = await programs.start("notify.py", MESA_URL=f"http://127.0.0.1:{api}", MESA_API_KEY=KEY)
    assert [await line(notify), await line(notify)] == ["user 0: 1 online", "user 1: 1 online"]
    assert [await line(client) for client in clients] == ["STATUS_UPDATE {'status': 'online'}"] * 2


async def test_the_same_client_and_dispatcher_work_over_redis(programs: Programs, redis_url: str) -> None:
    ports = [free_port(), free_port()]
    for port in ports:
        await programs.start(
            *(
                "-m",
                "mesa_ws",
                "serve",
                "--redis",
                redis_url,
                "--port",
                str(port),
                "--no-api",
                "--insecure-demo-auth",
            )
        )
    for port in ports:
        await listening(port)
    clients = [
        await programs.start("client.py", str(n), f"ws://127.0.0.1:{port}") for n, port in enumerate(ports)
    ]
    assert [await line(client) for client in clients] == ["connected as 0", "connected as 1"]
    await programs.start("notify.py", MESA_URL=redis_url)
    assert [await line(client) for client in clients] == ["STATUS_UPDATE {'status': 'online'}"] * 2
