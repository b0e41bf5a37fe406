"""Rooms, their members and what was said there, in a database that all processes share."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

TABLES = """
CREATE TABLE IF NOT EXISTS members (room TEXT, id TEXT, PRIMARY KEY (room, id));
CREATE TABLE IF NOT EXISTS said (key TEXT PRIMARY KEY, room TEXT, author TEXT, text TEXT);
"""


class Rooms:
    def __init__(self, path: str) -> None:
        self._path = path
        with self._database() as database:
            database.executescript(TABLES)

    def join(self, room: str, id: str) -> None:
        with self._database() as database:
            database.execute("INSERT OR IGNORE INTO members VALUES (?, ?)", (room, id))

    def members(self, room: str) -> list[str]:
        with self._database() as database:
            return [id for (id,) in database.execute("SELECT id FROM members WHERE room = ?", (room,))]

    def save(self, key: str, room: str, author: str, text: str) -> None:
        """Save what was said; a repeated event changes nothing."""
        with self._database() as database:
            database.execute("INSERT OR IGNORE INTO said VALUES (?, ?, ?, ?)", (key, room, author, text))

    def history(self, room: str) -> list[dict[str, str]]:
        with self._database() as database:
            found = database.execute("SELECT author, text FROM said WHERE room = ? ORDER BY rowid", (room,))
            return [{"author": author, "text": text} for author, text in found]

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=10)) as database, database:
            yield database
