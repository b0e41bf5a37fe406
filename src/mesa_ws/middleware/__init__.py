"""Middleware that comes with Mesa: give it to `server.use`.

`mesa_ws.middleware.prometheus` needs `pip install 'mesa-ws[prometheus]'`, so it is not imported here.
"""

from ..server.rates import RateLimit
from .logs import MessageLogging, StructuredLogging

__all__ = ["MessageLogging", "RateLimit", "StructuredLogging"]
