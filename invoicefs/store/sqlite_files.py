"""Operations on a SQLite database that bypass diskcache, each with its own connection."""

import sqlite3
from contextlib import closing
from pathlib import Path


def check_unlocked(database: Path, timeout_s: float) -> None:
    """Raise `sqlite3.OperationalError` if a database is locked; diskcache would wait for 60 s."""
    with closing(sqlite3.connect(database, timeout=timeout_s)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()


def checkpoint(database: Path) -> None:
    """Move the journal into the database, as far as other connections allow.

    Does not wait for them, because writers would have to wait as well.
    """
    with closing(sqlite3.connect(database, timeout=0)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
