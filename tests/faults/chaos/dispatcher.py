"""A dispatcher: python -m tests.faults.chaos.dispatcher NAME KIND REDIS_URL NAMESPACE SEED LOG ID...

The kind is `blocking` or `async`.

Writes `["meant", source, number, ids]` before it dispatches, and `["confirmed", source, number,
{id: position}]` afterwards. What has no confirmation is tried again under the same key, also after
it was killed. SIGTERM: it ends when everything it began is confirmed.
"""

import asyncio
import signal
import sys
import threading
import time
from pathlib import Path

from mesa_ws import AsyncDispatcher, BackendUnavailable, Dispatcher

from .journal import write
from .plan import Order, Source, confirmation, sources

AGAIN = 0.1
"""Seconds before another attempt."""

TIMEOUT = 1.5
"""Seconds for one attempt."""


def meant(order: Order) -> None:
    write(["meant", order.source, order.number, order.recipients])


def speak(source: Source, dispatcher: Dispatcher, stop: threading.Event) -> None:
    """Say what `source` has to say, from a thread."""
    while not stop.is_set():
        order = source.order()
        meant(order)
        write(confirmation(order, confirm(order, dispatcher)))
        source.number += 1
        stop.wait(source.pause)


def confirm(order: Order, dispatcher: Dispatcher) -> object:
    while True:
        try:
            return dispatcher.dispatch(order.message, order.to, idempotency_key=order.key)
        except BackendUnavailable as error:
            print(order.key, error, file=sys.stderr)
            time.sleep(AGAIN)


async def aspeak(source: Source, dispatcher: AsyncDispatcher, stop: threading.Event) -> None:
    """`speak` for asyncio."""
    while not stop.is_set():
        order = source.order()
        meant(order)
        write(confirmation(order, await aconfirm(order, dispatcher)))
        source.number += 1
        await asyncio.sleep(source.pause)


async def aconfirm(order: Order, dispatcher: AsyncDispatcher) -> object:
    while True:
        try:
            return await dispatcher.dispatch(order.message, order.to, idempotency_key=order.key)
        except BackendUnavailable as error:
            print(order.key, error, file=sys.stderr)
            await asyncio.sleep(AGAIN)


async def run_async(speakers: list[Source], redis_url: str, namespace: str, stop: threading.Event) -> None:
    async with (
        AsyncDispatcher(redis_url, namespace=namespace, sync=True, timeout=TIMEOUT) as dispatcher,
        asyncio.TaskGroup() as tasks,
    ):
        for source in speakers:
            tasks.create_task(aspeak(source, dispatcher, stop))


def run_blocking(speakers: list[Source], redis_url: str, namespace: str, stop: threading.Event) -> None:
    with Dispatcher(redis_url, namespace=namespace, sync=True, timeout=TIMEOUT) as dispatcher:
        threads = [threading.Thread(target=speak, args=(source, dispatcher, stop)) for source in speakers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def main(name: str, kind: str, redis_url: str, namespace: str, seed: str, log: str, *ids: str) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    speakers = sources(name, seed, ids, Path(log))
    if kind == "async":
        asyncio.run(run_async(speakers, redis_url, namespace, stop))
    else:
        run_blocking(speakers, redis_url, namespace, stop)


if __name__ == "__main__":
    main(*sys.argv[1:])
