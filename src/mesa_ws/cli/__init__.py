"""The command `mesa`."""

from .main import main

__all__ = ["main"]
