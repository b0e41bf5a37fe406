"""Journals of programs: one JSON list a line, which survives the death of its writer.

Each line begins with the time: `sort *.log` shows all events of a run in order.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Record = list[Any]


def write(record: Record, file: int = 1) -> None:
    """Append a record in one write; to stdout by default."""
    os.write(file, json.dumps([round(time.time(), 3), *record]).encode() + b"\n")


class Journal:
    """Reads a file that other processes append to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def news(self) -> Iterator[Record]:
        """Yield the records written since the last call, without their times."""
        return (record[1:] for record in self.timed_news())

    def timed_news(self) -> Iterator[Record]:
        """Yield the records written since the last call; each begins with its time."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield json.loads(line)
