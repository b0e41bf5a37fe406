"""What the server and the dispatcher of Django Channels share."""

from typing import Any

from django.conf import settings

EVERYBODY = "everybody"
CAPACITY = 10_000
"""Messages that may wait for a connection; 100 by default, and beyond that they are lost."""


def configure(redis: str) -> None:
    """Configure Django with the channel layer that Channels' documentation names."""
    layer = {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {
            "hosts": [redis],
            "capacity": CAPACITY,
        },
    }
    settings.configure(CHANNEL_LAYERS={"default": layer}, INSTALLED_APPS=["channels"])


def group_of(id: str) -> str:
    """Return the group of one id."""
    return f"user-{id}"


def event(body: bytes) -> dict[str, Any]:
    """Return what a group is sent."""
    return {"type": "message", "body": body.decode()}
