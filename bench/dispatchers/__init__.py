"""The dispatchers that are measured. Each prints the port on which it takes ticks.

On standard input `dispatch` sends messages to one id, `AT_ONCE` under way at a time. A tick is a
line over TCP with the moment when it was due: one message that carries it, sent without waiting.
"""

AT_ONCE = 64
