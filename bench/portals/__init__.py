"""The portals that are measured. Each prints a line when it takes part, then takes orders.

Arguments: the URL of a Redis, a namespace, and for ours the wire.

`count` waits until so many messages of clients were handled since it was asked last, or until none
has come for a while, and answers how many there were.
"""

LULL = 3.0
"""Seconds without a message after which no more are expected."""
