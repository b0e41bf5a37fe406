"""Backends, which nodes share: the ports, and their implementations."""
