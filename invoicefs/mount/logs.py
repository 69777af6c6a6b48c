"""The destination and the level of the log, with one line per distinct failure, not per request.

A line that has an exception among its arguments ends with the request that failed (the note that
``api`` adds to the exception). Lines that differ only in the request are not distinct, because each
request has its own id.

Names come from a server and may contain any characters. The formatter escapes those that would end
a line, move a cursor or reverse the text.
"""

import errno
import logging
import logging.handlers
import os
import stat
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from invoicefs.api.redaction import escaped
from invoicefs.errors import UserError
from invoicefs.mount.activity import RecentFailures

_SYSLOG_SOCKET = Path("/dev/log")
_OPEN_LOG = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


class RequestFormatter(logging.Formatter):
    """A formatter that appends the request that failed to a line."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 # logging's own name
        """Return the line; for an exception without a request, the request is that of its cause."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        errors = [argument for argument in arguments if isinstance(argument, BaseException)]
        requests = filter(None, map(_request_of, errors))
        suffix = "".join(f" [{request}]" for request in requests)
        return escaped(super().formatMessage(record) + suffix)

    def formatException(self, ei: Any) -> str:  # noqa: N802 # logging's own name
        """Return the traceback, with each of its lines escaped."""
        return "\n".join(map(escaped, super().formatException(ei).split("\n")))


class FilteringNullHandler(logging.Handler):
    """A handler that writes nothing but applies its filters, unlike `logging.NullHandler`."""

    def emit(self, record: logging.LogRecord) -> None:
        """Do nothing."""


class LogFile(logging.FileHandler):
    """A log in a file that is private to its user and not a symbolic link; raises `OSError`.

    The first line that cannot be written raises `UserError`; later ones, and all of them after
    `ignore_errors`, are lost.
    """

    def __init__(self, path: Path) -> None:
        self._ignores_errors = False
        # File names need not be valid text.
        super().__init__(path, encoding="utf-8", errors="backslashreplace")

    def ignore_errors(self) -> None:
        """Ignore write errors from now on: the mount is more important than its log."""
        self._ignores_errors = True

    def _open(self) -> TextIOWrapper:
        fd = os.open(self.baseFilename, _OPEN_LOG, 0o600)
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode):  # as opposed to /dev/null
            if status.st_uid != os.geteuid():
                os.close(fd)
                raise PermissionError(errno.EPERM, "it belongs to another user")
            os.fchmod(fd, 0o600)
        return TextIOWrapper(
            open(fd, "ab", buffering=0), self.encoding, self.errors, write_through=True
        )

    def handleError(self, _: logging.LogRecord) -> None:  # noqa: N802 # logging's own name
        """Raise `UserError` for the first line that is not written, unless ignored."""
        error = sys.exception()
        if not self._ignores_errors and isinstance(error, OSError):
            self._ignores_errors = True
            raise _unwritable(Path(self.baseFilename), error) from error


def _request_of(error: BaseException | None) -> str:
    if error is None:
        return ""
    notes: list[str] = getattr(error, "__notes__", [])
    return "; ".join(notes) or _request_of(error.__cause__)


def ignore_errors() -> None:
    """Ignore write errors of the log file from now on; the lines are lost."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogFile):
            handler.ignore_errors()


def configure(
    *, is_foreground: bool, log_file: Path | None, verbosity: int, is_quiet: bool = False
) -> RecentFailures:
    """Send the log to a file, to stderr in the foreground, or to syslog if there is one.

    `verbosity` is the number of ``-v`` options. If `is_quiet`, only errors are printed on stderr.
    Returns the filter that keeps recent failures; raises `UserError` if the file cannot be written.
    """
    handler = _handler(is_foreground, log_file)
    failures = RecentFailures()
    handler.addFilter(failures)
    if is_quiet and is_foreground and log_file is None:
        handler.addFilter(_is_error)  # after the filter that keeps the warnings
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[min(verbosity, len(_LEVELS) - 1)])
    # fusepy logs a traceback for every errno; our own lines are more informative.
    logging.getLogger("fuse").setLevel(logging.ERROR)
    # urllib3 logs tracebacks for errors that we convert to exceptions and log ourselves.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    return failures


def configure_quiet() -> None:
    """Discard the log; for commands that report all failures themselves."""
    logging.getLogger().handlers[:] = [logging.NullHandler()]


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def _handler(is_foreground: bool, log_file: Path | None) -> logging.Handler:
    handler: logging.Handler
    line = "%(levelname)s: %(message)s"
    if log_file is not None:
        try:
            handler = LogFile(log_file)
        except OSError as error:
            raise _unwritable(log_file, error) from error
        line = f"%(asctime)s {line}"
    elif is_foreground:
        handler = logging.StreamHandler()
        line = f"invoicefs: {line}"
    elif _SYSLOG_SOCKET.is_socket():
        handler = logging.handlers.SysLogHandler(str(_SYSLOG_SOCKET))
        line = f"invoicefs[%(process)d]: {line}"
    else:
        handler = FilteringNullHandler()
    handler.setFormatter(RequestFormatter(line))
    return handler


def _unwritable(log_file: Path, error: OSError) -> UserError:
    return UserError(f"The log file {log_file} cannot be written: {error.strerror}.")
