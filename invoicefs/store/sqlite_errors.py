"""What a failure of SQLite or of the disk below it means. Pure functions.

The codes of SQLite are those of https://sqlite.org/rescode.html; the lower byte is the primary one.
"""

import errno
import sqlite3
from collections.abc import Mapping
from typing import Final

LOCKED: Final = "another program has locked it"
"""The reason for which waiting helps."""

PASSING_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""Those of a disk that is in a bad state, which may end, and not of a folder that is wrong."""

_FULL: Final = "the disk is full"
_READ_ONLY: Final = "the disk is read-only"
_REASONS: Final[Mapping[int, str]] = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: _READ_ONLY,
}
_REASONS_OF_SQLITE: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_BUSY: LOCKED,
    sqlite3.SQLITE_LOCKED: LOCKED,
}


def first_of(error: Exception) -> Exception:
    """The error that mattered, where an error of SQLite brought another one with it.

    diskcache turns all that keeps it from beginning a transaction into a Timeout of its own, and
    rolls back what SQLite has rolled back already on a full disk, which fails.
    """
    return error.__context__ if isinstance(error.__context__, sqlite3.Error) else error


def reason_of(error: Exception) -> str:
    """What went wrong, without values, which sqlite3 quotes, and paths: one line for one cause."""
    if isinstance(error, OSError):
        return _REASONS.get(error.errno or 0, error.strerror or str(error))
    if isinstance(error, sqlite3.Error) and (code := _sqlite_code(error)) is not None:
        return _REASONS_OF_SQLITE.get(code, str(error))
    return type(error).__name__


def is_spoilt_row(error: Exception) -> bool:
    """Whether a row holds what it cannot hold: a miss to read, but no write gets past it.

    sqlite3 raises an error without a code for text that is not UTF-8.
    """
    is_undecodable = isinstance(error, sqlite3.OperationalError) and _sqlite_code(error) is None
    return is_undecodable or isinstance(error, TypeError)


def is_read_only(error: Exception) -> bool:
    """Whether SQLite only reads a database: for want of a right, or for what is in it."""
    return _sqlite_code(error) == sqlite3.SQLITE_READONLY


def is_damage(error: Exception) -> bool:
    """Whether the database itself is broken, and not just locked, full or out of reach.

    SQLITE_ERROR (1) is what a missing table brings: the file is a database, but not ours.
    """
    if isinstance(error, sqlite3.OperationalError):
        return _sqlite_code(error) == sqlite3.SQLITE_ERROR
    return isinstance(error, sqlite3.DatabaseError)


def _sqlite_code(error: Exception) -> int | None:
    """The primary result code of SQLite, if the error has one."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
