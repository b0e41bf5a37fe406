"""Realtime messages from any Python process to users over WebSockets."""

__version__ = "0.1.0"
