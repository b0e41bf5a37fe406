"""A portal with a handler that never returns: python -m tests.system.portal.stuck REDIS_URL NAMESPACE.

Prints a line when the handler has begun.
"""

import sys
import threading

from mesa_ws import Portal, PortalEvent
from mesa_ws.portal import worker


def main(redis_url: str, namespace: str) -> None:
    worker.GRACE = 0.2
    portal = Portal(redis_url, namespace=namespace)

    @portal.on_connection
    def on_connection(event: PortalEvent) -> None:
        print("begun", flush=True)
        threading.Event().wait()

    portal.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
