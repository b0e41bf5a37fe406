"""Centrifugo's library for Python, one request after another.

Arguments: the URL of the API; the recipient.
"""

import sys
from typing import Any

from cent import Client, PublishRequest

from ..centrifugo_api import KEY, channel_of
from .blocking_orders import obey_blocking

url, target = sys.argv[1:3]
client = Client(f"{url}/api", KEY)
channel = channel_of(target)


def dispatch(messages: int, data: Any, **_: Any) -> None:
    for _message in range(messages):
        client.publish(PublishRequest(channel=channel, data=data))


obey_blocking(dispatch)
