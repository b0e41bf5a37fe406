"""What programs write down: one JSON list a line, which is there even if its writer is killed next.

Each begins with the time, for people: `sort *.log` tells the story of a run.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Record = list[Any]


def write(record: Record, file: int = 1) -> None:
    """Append a record, whole or not at all; to stdout if nothing else is said."""
    os.write(file, json.dumps([round(time.time(), 3), *record]).encode() + b"\n")


class Journal:
    """Reads a file that others append to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def news(self) -> Iterator[Record]:
        """The records that were written since the last call, without their times."""
        return (record[1:] for record in self.timed_news())

    def timed_news(self) -> Iterator[Record]:
        """The records that were written since the last call; each begins with its time."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield json.loads(line)
