"""Dispatching through a server's HTTP API, without Redis: the bus alone, without presence of a node.

| module | holds |
|---|---|
| `routes` | the table of requests and answers, which the server uses as well |
| `dispatch_schema`, `problems` | bodies of dispatches and receipts, and of errors |
| `exchange` | one request and the meaning of its answer |
| `aio`, `blocking` | the two buses that send requests |
| `streams`, `connections` | their connections |
| `auth` | the key |

The buses ignore proxy settings of the environment and connect to the API directly, so that a dispatch never
goes to a proxy that was meant for the internet.
"""

from .aio import AsyncHttpBus
from .blocking import BlockingHttpBus

__all__ = ["AsyncHttpBus", "BlockingHttpBus"]
