"""The load generator: a process that connects clients, authenticates them, and counts what they receive.

It does as little as possible, so that a benchmark measures the server instead: sockets without a
library, bytes counted instead of messages parsed, and one epoll for all sockets.
"""
