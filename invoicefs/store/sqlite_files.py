"""What is done to a SQLite database beside diskcache, with a connection of its own."""

import sqlite3
from contextlib import closing
from pathlib import Path


def check_unlocked(database: Path, timeout_s: float) -> None:
    """Raise `sqlite3.OperationalError` if a database is locked: diskcache would wait for 60 s."""
    with closing(sqlite3.connect(database, timeout=timeout_s)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()


def checkpoint(database: Path) -> None:
    """Move the journal into the database; raises `sqlite3.OperationalError` if it is locked.

    It waits for nobody, because writers would have to wait with it.
    """
    with closing(sqlite3.connect(database, timeout=0)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
