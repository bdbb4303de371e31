"""What lies in a cache folder: sizes, data sets and times of use, in a small database that can be lost."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

BUSY_SECONDS = 10.0
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS entries "
    "(key TEXT PRIMARY KEY, size INTEGER NOT NULL, name TEXT NOT NULL, used REAL NOT NULL) WITHOUT ROWID"
)


@dataclass(frozen=True)
class Listed:
    """An entry as the index knows it.

    Attributes:
        key: name of the entry, 64 hexadecimal digits.
        size: bytes on disk.
        name: data set that it belongs to.
        used: time of last use, in seconds since 1970.
    """

    key: str
    size: int
    name: str
    used: float


class Index:
    """SQLite database of the entries of a cache folder.

    The entries themselves are the truth: an index that is missing or damaged is made anew from them. Every call opens
    its own connection, so that an index may be used from any thread and carried into any process.

    Args:
        path: the database.
        scan: lists the entries that lie in the folder, for an index that has to be made anew.
    """

    def __init__(self, path: Path, scan: Callable[[], Iterable[Listed]]) -> None:
        self.path = path
        self._scan = scan

    def put(self, key: str, size: int, name: str) -> None:
        """Note an entry, or that it was used now."""
        with self._writing() as database:
            _insert(database, [Listed(key, size, name, time.time())])

    def remove(self, keys: Iterable[str]) -> None:
        """Forget entries."""
        with self._writing() as database:
            database.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key in keys])

    def total(self) -> int:
        """Return the size of all entries, in bytes."""
        with self._writing() as database:
            return int(database.execute("SELECT TOTAL(size) FROM entries").fetchone()[0])

    def all(self) -> list[Listed]:
        """List the entries, the longest unused first."""
        with self._writing() as database:
            rows = database.execute("SELECT key, size, name, used FROM entries ORDER BY used, key").fetchall()
        return [Listed(str(key), int(size), str(name), float(used)) for key, size, name, used in rows]

    def take_oldest(self, limit: int, keep: str) -> list[str]:
        """Forget the longest unused entries so that ``limit`` bytes remain, in one step; ``keep`` stays.

        Returns:
            keys of the entries whose files are to be removed.
        """
        with self._writing() as database:
            excess = int(database.execute("SELECT TOTAL(size) FROM entries").fetchone()[0]) - limit
            if excess <= 0:
                return []
            gone = []
            for key, size in database.execute("SELECT key, size FROM entries ORDER BY used, key"):
                if excess <= 0:
                    break
                if key != keep:
                    gone.append(str(key))
                    excess -= size
            database.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key in gone])
            return gone

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that has the database for itself; one that turns out damaged is removed, to be made anew."""
        try:
            with closing(self._open()) as connection:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.commit()
        except sqlite3.OperationalError:
            raise  # locked, read-only or no space: the database is not to blame
        except sqlite3.DatabaseError:
            self._delete()
            raise

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            # no write-ahead log: to turn it on does not wait for other processes
            connection.execute("PRAGMA synchronous=OFF")
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                self._rebuild(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _rebuild(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:  # no other process was quicker
            connection.execute(_SCHEMA)
            _insert(connection, self._scan())
            connection.execute("PRAGMA user_version=1")
        connection.execute("COMMIT")

    def _delete(self) -> None:
        for suffix in ("", "-journal"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)


def _insert(database: sqlite3.Connection, entries: Iterable[Listed]) -> None:
    database.executemany(
        "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)",
        ((entry.key, entry.size, entry.name, entry.used) for entry in entries),
    )
