"""Programs of the documentation, run in processes of their own."""

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart"
KEY = "a-long-random-secret"
LIMIT = 20.0
"""Seconds to wait for a program."""


class Programs:
    """Starts programs in the directory of the tutorial, and stops them."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            cwd=QUICKSTART,
            env=os.environ | environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._stack.push_async_callback(ended, process)
        return process


async def ended(process: asyncio.subprocess.Process) -> None:
    """End a process, unless it has ended."""
    if process.returncode is None:
        process.terminate()
    await process.wait()


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(LIMIT):
        return (await process.stdout.readline()).decode().strip()
