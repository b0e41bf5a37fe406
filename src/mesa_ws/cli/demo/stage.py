"""Where the demo plays: one server on the embedded backend, or two replicas on one Redis."""

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from ..output import compact
from .audience import audience
from .processes import DispatchRun, ServerRun, dispatch, server
from .report import Report
from .story import CURTAIN, SCENES, Scene

LISTEN = ("--insecure-demo-auth", "--host", "127.0.0.1", "--port", "0", "--log-level", "warning")
REPLICAS = 2


class Stage(NamedTuple):
    """Servers that run.

    Attributes:
        urls: where clients connect to.
        dispatching: the environment in which `mesa dispatch` finds the way to them.
    """

    urls: Sequence[str]
    dispatching: Mapping[str, str]


async def play(redis: str | None) -> Report:
    """Play every scene and report what was received.

    Args:
        redis: URI of the Redis that two replicas share; None for one server without Redis.

    Raises:
        DemoFailed: a process did not do its work.
        MesaError: a client could not connect.
    """
    stage_of_kind = _embedded() if redis is None else _replicated(redis)
    async with stage_of_kind as stage, audience(stage.urls) as clients:
        runs = [await _dispatched(scene, stage) for scene in (*SCENES, CURTAIN)]
        return Report(runs[: len(SCENES)], await clients.received(), clients.seats)


@asynccontextmanager
async def _embedded() -> AsyncIterator[Stage]:
    key = secrets.token_urlsafe(24)
    async with server((*LISTEN, "--api-port", "0"), {"MESA_API_KEY": key}) as started:
        yield Stage([started.url], {"MESA_URL": started.api_url or "", "MESA_API_KEY": key})


@asynccontextmanager
async def _replicated(redis: str) -> AsyncIterator[Stage]:
    namespace = f"demo-{secrets.token_hex(8)}"
    settings = {"MESA_REDIS": redis, "MESA_NAMESPACE": namespace}
    async with AsyncExitStack() as running:
        started: list[ServerRun] = [
            await running.enter_async_context(server((*LISTEN, "--no-api"), settings))
            for _ in range(REPLICAS)
        ]
        yield Stage([one.url for one in started], {"MESA_URL": redis, "MESA_NAMESPACE": namespace})


async def _dispatched(scene: Scene, stage: Stage) -> DispatchRun:
    return await dispatch((scene.type, compact(scene.data), *scene.options), stage.dispatching)
