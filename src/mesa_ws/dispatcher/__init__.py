"""`Dispatcher` and `AsyncDispatcher`: send messages to users from any process.

Both say the same in two ways of waiting. What a dispatch means is decided in `envelope.prepare`;
how it travels is the business of a bus, over Redis or over a server's HTTP API.
"""

from ..messages.envelope import Dispatch
from .aio import AsyncDispatcher
from .blocking import Dispatcher

__all__ = ["AsyncDispatcher", "Dispatch", "Dispatcher"]
