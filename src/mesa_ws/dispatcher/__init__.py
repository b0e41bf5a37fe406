"""`Dispatcher` and `AsyncDispatcher`: send messages to users from any process.

The two differ in how they wait. `envelope.prepare` checks a dispatch and encodes it; a bus carries it,
over Redis or over a server's HTTP API.
"""

from ..messages.envelope import Dispatch, Latest
from .aio import AsyncDispatcher
from .blocking import Dispatcher

__all__ = ["AsyncDispatcher", "Dispatch", "Dispatcher", "Latest"]
