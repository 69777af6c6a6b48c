"""What an error of SQLite, or of the disk below it, means. Pure functions.

Result codes are those of https://sqlite.org/rescode.html; the lower byte is the primary code.
"""

import errno
import sqlite3
from collections.abc import Mapping
from typing import Final

LOCKED: Final = "another program has locked it"
"""The one reason that waiting removes."""

TRANSIENT_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""Those of a disk in a bad state, which may end, as opposed to those of a wrong folder."""

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
    """Return the error of SQLite behind an error that followed from it, or the error itself.

    diskcache turns whatever prevents a transaction into a Timeout of its own. On a full disk it
    rolls back what SQLite has already rolled back, which fails.
    """
    return error.__context__ if isinstance(error.__context__, sqlite3.Error) else error


def reason_of(error: Exception) -> str:
    """Return the reason in words, without values, which sqlite3 quotes, and without paths."""
    if isinstance(error, OSError):
        return _REASONS.get(error.errno or 0, error.strerror or str(error))
    if isinstance(error, sqlite3.Error) and (code := _sqlite_code(error)) is not None:
        return _REASONS_OF_SQLITE.get(code, str(error))
    return type(error).__name__


def is_unreadable_row(error: Exception) -> bool:
    """Return whether a row has an impossible value: a miss for reads, but it blocks writes.

    sqlite3 raises an error without a code for text that is not UTF-8.
    """
    is_undecodable = isinstance(error, sqlite3.OperationalError) and _sqlite_code(error) is None
    return is_undecodable or isinstance(error, TypeError)


def is_read_only(error: Exception) -> bool:
    """Return whether SQLite can only read a database, for lack of permission or by its header."""
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
