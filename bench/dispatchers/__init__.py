"""Dispatchers to measure. Each prints the port on which it listens for ticks.

The order `dispatch` on standard input sends messages to one id, `AT_ONCE` at a time. A tick is a line
over TCP with the time when it was due: the dispatcher sends one message with that time, and does not
wait for its receipt.

`many_ids` and `blocking` send to several ids in turn, as the order `dispatch` says, and listen for no
ticks. Their arguments are the URL of a Redis, a namespace, and `sync` to have messages stored.

The order `batches` sends `BATCH` in one call, of those that have one. Dispatchers that wait for each message
know `dispatch` alone.
"""

AT_ONCE = 64
BATCH = 100


def recipients(number: int, first: int, ids: int, each: int = 1) -> list[str]:
    """Return the recipients of message `number`: `each` of the `ids` ids from `first` on, in turn."""
    return [str(first + (number * each + offset) % ids) for offset in range(each)]
