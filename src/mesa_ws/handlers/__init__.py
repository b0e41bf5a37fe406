"""Calling the functions of applications: `async def` in the event loop, `def` in threads.

| module | holds |
|---|---|
| `caller` | calls a function, wherever it has to run |
| `threads` | threads for plain functions |
"""

from .caller import (
    Caller,
    Handler,
    HandlerCancelled,
    call,
    call_at_once,
    call_for_application,
    is_async,
    name_of,
)

__all__ = [
    "Caller",
    "Handler",
    "HandlerCancelled",
    "call",
    "call_at_once",
    "call_for_application",
    "is_async",
    "name_of",
]
