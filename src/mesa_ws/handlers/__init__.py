"""Calls of the application's functions: `async def` in the event loop, `def` in threads.

| module | subject |
|---|---|
| `caller` | calls of handlers, and the check of their signatures |
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
