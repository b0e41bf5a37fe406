"""Portals to measure. Each prints a line when it has joined, then obeys orders.

Arguments: the URL of a Redis, a namespace, and for ours the wire.

The order `count` waits until so many messages of clients were handled since the last `count`, or
until none has arrived for a while, and answers with their number.
"""

LULL = 3.0
"""Seconds without a message after which no more are expected."""
