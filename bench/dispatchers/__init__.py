"""The dispatchers that are measured. Each prints the port on which it takes ticks.

On standard input `dispatch` sends messages to one id, `AT_ONCE` under way at a time. A tick is a
line over TCP with the moment when it was due: one message that carries it, sent without waiting.

`spread` and `waiting` are told by `dispatch` to how many ids, in turn, and take no ticks. Their
arguments are the URL of a Redis, a namespace, and `sync` to have messages stored.
"""

AT_ONCE = 64


def recipients(number: int, first: int, ids: int, each: int = 1) -> list[str]:
    """To whom message `number` goes: `each` of the `ids` ids from `first` on, in turn."""
    return [str(first + (number * each + place) % ids) for place in range(each)]
