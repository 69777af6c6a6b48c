"""The meaning of errors of SQLite and of the disk below it. Pure functions.

Result codes are those of https://sqlite.org/rescode.html; the lower byte is the primary code.
"""

import errno
import sqlite3
from collections.abc import Mapping
from typing import Final

LOCKED: Final = "another program has locked it"
"""The only failure that SQLite reports after waiting for it to end."""

TRANSIENT_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""Errors of the disk that may be temporary, as opposed to those of an unsuitable folder."""

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


def cause_of(error: Exception) -> Exception:
    """Return the error of SQLite that caused an error, or the error itself.

    diskcache raises its own Timeout for every error that prevents a transaction. On a full disk it
    rolls back a transaction that SQLite has already rolled back, which fails.
    """
    return error.__context__ if isinstance(error.__context__, sqlite3.Error) else error


def reason_of(error: Exception) -> str:
    """Return the reason in words, without paths and without the values that sqlite3 quotes."""
    if isinstance(error, OSError):
        return _REASONS.get(error.errno or 0, error.strerror or str(error))
    if isinstance(error, sqlite3.Error) and (code := _sqlite_code(error)) is not None:
        return _REASONS_OF_SQLITE.get(code, str(error))
    return type(error).__name__


def is_unreadable_row(error: Exception) -> bool:
    """Return whether a row has an invalid value, which is a miss for reads but blocks writes.

    sqlite3 raises an error without a code for text that is not UTF-8.
    """
    is_undecodable = isinstance(error, sqlite3.OperationalError) and _sqlite_code(error) is None
    return is_undecodable or isinstance(error, TypeError)


def is_read_only(error: Exception) -> bool:
    """Return whether a database is read-only, because of its permissions or its header."""
    return _sqlite_code(error) == sqlite3.SQLITE_READONLY


def is_corruption(error: Exception) -> bool:
    """Return whether the database itself is corrupt, not just locked, full or unreachable.

    A missing table gives SQLITE_ERROR (1): the file is a database, but not one of ours.
    """
    if isinstance(error, sqlite3.OperationalError):
        return _sqlite_code(error) == sqlite3.SQLITE_ERROR
    return isinstance(error, sqlite3.DatabaseError)


def _sqlite_code(error: Exception) -> int | None:
    """Return the primary result code of SQLite, if the error has one."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
