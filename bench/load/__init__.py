"""The load generator: a process of its own that connects, authenticates, and counts what comes.

It does no more than it must, so that it is not what a benchmark measures: sockets without any
library, bytes counted where messages could be parsed, and one wait for many sockets.
"""
