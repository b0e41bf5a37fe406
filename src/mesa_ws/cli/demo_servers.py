"""The processes of the demo: each runs `mesa` itself, and none outlives the demo."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import IO, NamedTuple

import msgspec

from ..errors import MesaError

START_LIMIT = 30.0
"""Seconds a process gets to start and do its work; a busy machine needs many."""

STOP_LIMIT = 10.0
"""Seconds a server gets to stop before it is killed."""


class DemoFailed(MesaError):
    """A part of the demo failed."""


class Started(msgspec.Struct):
    """The output of a server that has started."""

    url: str
    api_url: str | None


class ServerRun(NamedTuple):
    """A server that has started, and its process."""

    process: asyncio.subprocess.Process
    url: str
    api_url: str | None

    @property
    def is_running(self) -> bool:
        """Whether the process still runs."""
        return self.process.returncode is None

    async def kill(self) -> None:
        """End the process as `kill -9` does."""
        if self.is_running:
            self.process.kill()
        await self.process.wait()


class Dispatched(msgspec.Struct):
    """The output of a dispatch."""

    message_id: str
    dispatched_at: float
    took_ms: float


class DispatchRun(NamedTuple):
    """A dispatch, and its process."""

    pid: int
    outcome: Dispatched


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the demo's processes: `settings` instead of the user's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MESA_")}
    return {**kept, **settings}


@asynccontextmanager
async def server(arguments: tuple[str, ...], settings: Mapping[str, str]) -> AsyncIterator[ServerRun]:
    """Run `mesa serve` as long as the block lasts.

    Raises:
        DemoFailed: it did not start.
    """
    with tempfile.TemporaryFile() as errors:
        process = await _start(("serve", "--config", os.devnull, "--json", *arguments), settings, errors)
        try:
            started = await _started(process, errors)
            yield ServerRun(process, started.url, started.api_url)
        finally:
            await _stop(process)


async def dispatch(arguments: tuple[str, ...], settings: Mapping[str, str]) -> DispatchRun:
    """Run `mesa dispatch` to its end.

    Raises:
        DemoFailed: it did not succeed.
    """
    with tempfile.TemporaryFile() as errors:
        process = await _start(("dispatch", "--json", *arguments), settings, errors)
        try:
            output, _ = await asyncio.wait_for(process.communicate(), START_LIMIT)
        except TimeoutError:
            raise DemoFailed(f"the dispatch did not end within {START_LIMIT:g} s") from None
        finally:
            await _stop(process)
        if process.returncode != 0:
            raise DemoFailed(f"the dispatch failed: {_said(errors)}")
    return DispatchRun(process.pid, msgspec.json.decode(output, type=Dispatched))


async def _start(
    arguments: tuple[str, ...], settings: Mapping[str, str], errors: IO[bytes]
) -> asyncio.subprocess.Process:
    # -P: a file in the working directory must not replace a library.
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "mesa_ws",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=errors,
        env=environment(settings),
    )


async def _started(process: asyncio.subprocess.Process, errors: IO[bytes]) -> Started:
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_LIMIT)
    except TimeoutError:
        raise DemoFailed(f"the server did not start within {START_LIMIT:g} s") from None
    if not line:
        # Terminating a process that has just ended would take its exit code from the event loop.
        await process.wait()
        why = _said(errors).removesuffix(" (address: MESA_REDIS)")  # that variable is the demo's doing
        raise DemoFailed(f"the server did not start: {why}")
    return msgspec.json.decode(line, type=Started)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_LIMIT)
    except TimeoutError:
        process.kill()
        await process.wait()


def _said(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix("Error: ") if lines else "it said nothing"


LISTEN = ("--insecure-demo-auth", "--host", "127.0.0.1", "--port", "0", "--log-level", "warning")
REPLICAS = 2
