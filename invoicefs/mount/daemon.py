"""The background process of a mount, and the command that waits until it is usable or has failed.

fusepy's own background mode cannot report failures, and threads, sessions and caches created before
its fork do not work after it (measured). So we fork first: the child creates everything, and
reports the outcome through a pipe. A second pipe, on which nothing is ever sent, shows the child
that the waiting command has been killed.

Until the folder is mounted, the child stays in the process group of the command: in a folder of
autofs (``x-systemd.automount``), only the process group of the automounter can access the folder.
Every other process, such as libfuse in a child of another group, waits for the mount (measured: for
ever).
"""

import gc
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from typing import IO, NoReturn

from invoicefs.errors import InvoicefsError, UserError
from invoicefs.threads import start_thread

log = logging.getLogger(__name__)

Serve = Callable[[Callable[[], None]], None]

_READY = b"ready"


def run_in_background(serve: Serve) -> None:
    """Run `serve` in a child process; returns when `serve` has called its argument.

    Everything that the child has written to stderr by then, including messages of libfuse, is
    written to the stderr of this process.
    Raises `UserError` with the reason if the child fails or ends before it is ready. If this
    process is killed while it waits, the child ends, and nothing is mounted.
    """
    report_fd, child_report_fd = os.pipe()
    child_life_fd, life_fd = os.pipe()
    with tempfile.TemporaryFile() as child_stderr:
        # The garbage collector writes to the objects that it visits. Neither process should copy
        # their pages for that, above all not this one when it ends (measured: 12 ms).
        gc.freeze()
        pid = os.fork()
        if pid == 0:
            os.close(report_fd)
            os.close(life_fd)
            _child(serve, child_report_fd, child_life_fd, child_stderr)
        os.close(child_report_fd)
        os.close(child_life_fd)
        report = _wait_for_report(pid, report_fd)
        child_stderr.seek(0)
        words = child_stderr.read().decode(errors="replace")
    os.close(life_fd)
    if report == _READY:
        sys.stderr.write(words)
        return
    os.waitpid(pid, 0)
    if report:
        sys.stderr.write(words)
        raise UserError(report.decode(errors="replace"))
    raise UserError(f"The mount failed: {words.strip() or 'the process ended without a message'}")


def _wait_for_report(pid: int, report_fd: int) -> bytes:
    """Return what the child reports; empty if it ends without a report."""
    try:
        with open(report_fd, "rb") as report:
            return report.read()
    except KeyboardInterrupt:
        os.kill(pid, signal.SIGTERM)
        raise


def _child(serve: Serve, report_fd: int, life_fd: int, stderr: IO[bytes]) -> NoReturn:
    """Become a daemon (daemon(7)) and serve; never returns into the parent's code."""
    code = 1
    try:
        with open(report_fd, "wb", buffering=0) as report:

            def serve_for_command(on_ready: Callable[[], None]) -> None:
                _end_with_command(life_fd, report)
                serve(on_ready)

            code = _serve_and_report(serve_for_command, report, stderr)
    finally:
        sys.stderr.flush()
        os._exit(code)


def _end_with_command(life_fd: int, report: IO[bytes]) -> None:
    """End this process if the command that waits for it ends first.

    SIGTERM ends the process or, once libfuse handles the signal, unmounts.
    """

    def watch() -> None:
        os.read(life_fd, 1)
        os.close(life_fd)
        if not report.closed:
            os.kill(os.getpid(), signal.SIGTERM)

    start_thread(watch, "command")


def _serve_and_report(serve: Serve, report: IO[bytes], stderr: IO[bytes]) -> int:
    os.chdir("/")  # so that no other filesystem is kept busy
    null_fd = os.open(os.devnull, os.O_RDWR)
    os.dup2(null_fd, 0)
    os.dup2(null_fd, 1)
    os.dup2(stderr.fileno(), 2)

    def on_ready() -> None:
        os.setsid()
        os.dup2(null_fd, 2)
        stderr.close()
        try:
            report.write(_READY)
        except BrokenPipeError:
            return  # the command was killed, so `_end_with_command` ends this process
        report.close()

    try:
        serve(on_ready)
    except InvoicefsError as error:
        reason = str(error)
    except Exception as error:
        log.exception("The mount failed unexpectedly")
        reason = f"The mount failed unexpectedly: {type(error).__name__}: {error}"
    else:
        return 0
    if not report.closed:
        report.write(reason.encode(errors="replace"))
    return 1
