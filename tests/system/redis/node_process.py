"""A node in a process of its own, which tests kill and pause."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.contract.cluster import LIMIT
from tests.system.conftest import LEASE

PROGRAM = Path(__file__).with_name("node_program.py")


class NodeProcess:
    """A node program, with its output."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @asynccontextmanager
    async def start(cls, redis_url: str, namespace: str, *ids: str) -> AsyncIterator["NodeProcess"]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(PROGRAM),
            redis_url,
            namespace,
            str(LEASE),
            *ids,
            stdout=asyncio.subprocess.PIPE,
        )
        node = cls(process)
        await node.line()
        try:
            yield node
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def line(self) -> str:
        """Return the next line that the node prints."""
        assert self._process.stdout is not None
        async with asyncio.timeout(LIMIT):
            return (await self._process.stdout.readline()).decode().strip()
