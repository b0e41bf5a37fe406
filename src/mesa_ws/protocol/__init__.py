"""The protocol of one connection without I/O, clock or asyncio, for both ends.

Bytes and `now` go in; events, bytes to send and the next deadline come out. The rules are those
of `spec/protocol.md`, and `spec/vectors/` drives the tests.
"""
