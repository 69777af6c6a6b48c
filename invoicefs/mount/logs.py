"""Where the log goes and how much of it: one line per distinct failure, not per call.

A line that has an exception among its arguments ends in the request that it came from (the note
that ``api`` adds to it). That is no part of what makes a line distinct: each request has an id.

Names come from a server and may hold anything. What would end a line, move a cursor or turn the
text around is escaped by the formatter, whoever logs it.
"""

import errno
import logging
import logging.handlers
import os
import stat
import sys
import threading
import time
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from invoicefs.api.redaction import escaped
from invoicefs.errors import UserError

QUIET_S = 600.0
"""The same line is not logged again for so long."""

_LINES_REMEMBERED = 1000
_SYSLOG_SOCKET = Path("/dev/log")
_OPEN_LOG = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


class DistinctLines(logging.Filter):
    """Lets a warning or error through once per `QUIET_S`; what ``-v`` adds always passes."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now_s = now_s
        self._lock = threading.Lock()
        self._quiet_until_s: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        if record.levelno < logging.WARNING:
            return True
        now_s, line = self._now_s(), record.getMessage()
        with self._lock:
            if now_s < self._quiet_until_s.get(line, now_s):
                return False
            if len(self._quiet_until_s) >= _LINES_REMEMBERED:
                self._quiet_until_s.clear()
            self._quiet_until_s[line] = now_s + QUIET_S
        return True


class LinesWithRequests(logging.Formatter):
    """Says at the end of a line which request failed."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 # logging's own name
        """The line; of an exception raised because of another one, that one's request counts."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        requests = [_request_of(each) for each in arguments if isinstance(each, BaseException)]
        told = "".join(f" [{request}]" for request in requests if request)
        return escaped(super().formatMessage(record) + told)

    def formatException(self, ei: Any) -> str:  # noqa: N802 # logging's own name
        """The traceback, in lines of its own."""
        return "\n".join(map(escaped, super().formatException(ei).split("\n")))


class LogFile(logging.FileHandler):
    """A log in a file for its user alone, behind no link; raises `OSError`.

    Until `be_quiet` what cannot be written is a `UserError`; from then on it costs that line.
    """

    def __init__(self, path: Path) -> None:
        self._is_quiet = False
        # The name of a file need not be text.
        super().__init__(path, encoding="utf-8", errors="backslashreplace")

    def be_quiet(self) -> None:
        """Raise nothing any more: the mount is more important than its log."""
        self._is_quiet = True

    def _open(self) -> TextIOWrapper:
        fd = os.open(self.baseFilename, _OPEN_LOG, 0o600)
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode):  # and not /dev/null
            if status.st_uid != os.geteuid():
                os.close(fd)
                raise PermissionError(errno.EPERM, "it belongs to somebody else")
            os.fchmod(fd, 0o600)
        return TextIOWrapper(
            open(fd, "ab", buffering=0), self.encoding, self.errors, write_through=True
        )

    def handleError(self, _: logging.LogRecord) -> None:  # noqa: N802 # logging's own name
        """Take note that a line could not be written."""
        error = sys.exception()
        if not self._is_quiet and isinstance(error, OSError):
            self._is_quiet = True
            raise _unwritable(Path(self.baseFilename), error) from error


def _request_of(error: BaseException | None) -> str:
    if error is None:
        return ""
    notes: list[str] = getattr(error, "__notes__", [])
    return "; ".join(notes) or _request_of(error.__cause__)


def be_quiet() -> None:
    """From now on a log that cannot be written costs its lines, and nothing else."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogFile):
            handler.be_quiet()


def configure(*, is_foreground: bool, log_file: Path | None, verbosity: int) -> None:
    """Send the log to a file, else to stderr in the foreground, else to syslog.

    `verbosity` counts ``-v``. Raises `UserError` where the file cannot be written.
    """
    handler = _handler(is_foreground, log_file)
    handler.addFilter(DistinctLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[min(verbosity, len(_LEVELS) - 1)])
    # fusepy logs every errno it passes on as a debug traceback; the errno table does that better.
    logging.getLogger("fuse").setLevel(logging.ERROR)
    # urllib3 adds tracebacks to what becomes an exception, and a log line, of our own.
    logging.getLogger("urllib3").setLevel(logging.ERROR)


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
        handler = logging.NullHandler()
    handler.setFormatter(LinesWithRequests(line))
    return handler


def _unwritable(log_file: Path, error: OSError) -> UserError:
    return UserError(f"The log file {log_file} cannot be written: {error.strerror}.")
