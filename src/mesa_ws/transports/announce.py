"""Saying that a process has started, as its user expects to see it."""

import logging
import sys

from ..version import __version__


def announce(log: logging.Logger, text: str) -> None:
    """Log `text` at INFO; where no logging is set up, write it to stderr, for it would not be seen."""
    if log.hasHandlers():
        log.info("%s", text)
    else:
        sys.stderr.write(f"mesa {__version__}: {text}\n")
        sys.stderr.flush()
