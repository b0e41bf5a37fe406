"""Django Channels' channel layer, to the group of one client.

Arguments: the URL of a Redis; the recipient.
"""

import asyncio
import sys
from typing import Any

from .. import wire
from ..channel_layers import configure, event, group_of
from ..servers.orders import obey_orders, run
from . import AT_ONCE
from .ticks import listen_for_ticks

url, target = sys.argv[1:]
configure(url)

from channels.layers import get_channel_layer  # noqa: E402  # Django must be configured first

group = group_of(target)


async def main() -> None:
    layer = get_channel_layer()
    under_way: set[asyncio.Task[Any]] = set()

    def send(at: str) -> None:
        task = asyncio.create_task(layer.group_send(group, event(wire.body(at))))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    async def dispatch(messages: int, **_: Any) -> None:
        for start in range(0, messages, AT_ONCE):
            count = min(AT_ONCE, messages - start)
            await asyncio.gather(*(layer.group_send(group, event(wire.body())) for _ in range(count)))

    await obey_orders(await listen_for_ticks(send), {"dispatch": dispatch})


run(main)
