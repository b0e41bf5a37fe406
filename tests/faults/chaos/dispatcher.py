"""A dispatcher: python -m tests.faults.chaos.dispatcher NAME KIND DURABILITY REDIS NAMESPACE SEED LOG ID...

The kind is `blocking` or `async`.

It writes `["meant", source, number, ids]` before it dispatches, and `["confirmed", source, number,
{id: position}]` afterwards. It tries unconfirmed messages again under the same key, even after it was
killed. On SIGTERM, it ends when all its messages are confirmed.
"""

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from mesa_ws import AsyncDispatcher, BackendUnavailable, Dispatcher

from .journal import write
from .plan import Order, Source, confirmation, sources

AGAIN = 0.1
"""Seconds before another attempt."""

TIMEOUT = 1.5
"""Seconds for one attempt."""


def meant(order: Order) -> None:
    write(["meant", order.source, order.number, order.recipients])


def speak(source: Source, dispatch: Callable[..., object], stop: threading.Event) -> None:
    """Dispatch the messages of `source`, in a thread."""
    while not stop.is_set():
        order = source.order()
        meant(order)
        write(confirmation(order, confirm(order, dispatch)))
        source.number += 1
        stop.wait(source.pause)


def confirm(order: Order, dispatch: Callable[..., object]) -> object:
    while True:
        try:
            return dispatch(order.message, order.to, idempotency_key=order.key)
        except BackendUnavailable as error:
            print(order.key, error, file=sys.stderr)
            time.sleep(AGAIN)


async def aspeak(source: Source, dispatch: Callable[..., Awaitable[object]], stop: threading.Event) -> None:
    """Dispatch the messages of `source`, in asyncio."""
    while not stop.is_set():
        order = source.order()
        meant(order)
        write(confirmation(order, await aconfirm(order, dispatch)))
        source.number += 1
        await asyncio.sleep(source.pause)


async def aconfirm(order: Order, dispatch: Callable[..., Awaitable[object]]) -> object:
    while True:
        try:
            return await dispatch(order.message, order.to, idempotency_key=order.key)
        except BackendUnavailable as error:
            print(order.key, error, file=sys.stderr)
            await asyncio.sleep(AGAIN)


async def run_async(
    speakers: list[Source], redis_url: str, namespace: str, how: Any, stop: threading.Event
) -> None:
    async with (
        AsyncDispatcher(redis_url, namespace=namespace, sync=True, timeout=TIMEOUT) as dispatcher,
        asyncio.TaskGroup() as tasks,
    ):
        dispatch = partial(dispatcher.dispatch, durability=how)
        for source in speakers:
            tasks.create_task(aspeak(source, dispatch, stop))


def run_blocking(
    speakers: list[Source], redis_url: str, namespace: str, how: Any, stop: threading.Event
) -> None:
    with Dispatcher(redis_url, namespace=namespace, sync=True, timeout=TIMEOUT) as dispatcher:
        dispatch = partial(dispatcher.dispatch, durability=how)
        threads = [threading.Thread(target=speak, args=(source, dispatch, stop)) for source in speakers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def main(
    name: str, kind: str, durability: str, redis_url: str, namespace: str, seed: str, log: str, *ids: str
) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    speakers = sources(name, seed, ids, Path(log))
    if kind == "async":
        asyncio.run(run_async(speakers, redis_url, namespace, durability, stop))
    else:
        run_blocking(speakers, redis_url, namespace, durability, stop)


if __name__ == "__main__":
    main(*sys.argv[1:])
