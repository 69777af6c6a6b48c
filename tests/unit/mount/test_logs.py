"""Where the log goes and what is logged."""

import contextlib
import logging
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from invoicefs.errors import InvoicefsError, UserError
from invoicefs.mount.activity import QUIET_S, RecentFailures
from invoicefs.mount.logs import configure, ignore_errors

log = logging.getLogger("invoicefs.of_a_module")

ALWAYS_LOGGED = (logging.WARNING, logging.ERROR, logging.CRITICAL)


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    """Restore what `configure` replaces, and close what it opened."""
    root, fuse = logging.getLogger(), logging.getLogger("fuse")
    handlers, level, fuse_level = root.handlers[:], root.level, fuse.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    fuse.setLevel(fuse_level)


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    return tmp_path / "invoicefs.log"


def configure_log_file(log_file: Path, verbosity: int = 0) -> None:
    configure(is_foreground=False, log_file=log_file, verbosity=verbosity)


def lines(log_file: Path) -> list[str]:
    return log_file.read_text(encoding="utf-8").splitlines()


# One line per distinct failure


class Time:
    """Monotonic seconds that a test sets."""

    def __init__(self) -> None:
        self.now_s = 5_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def passes(time: Time) -> Callable[..., bool]:
    """Return a function that logs a line and returns whether it passes."""
    distinct_lines = RecentFailures(time)

    def passes(message: str, *words: object, level: int = logging.WARNING) -> bool:
        record = logging.LogRecord("invoicefs", level, __file__, 1, message, words, None)
        return bool(distinct_lines.filter(record))

    return passes


@pytest.mark.parametrize("level", ALWAYS_LOGGED)
def test_a_failure_is_logged_once(passes: Callable[..., bool], level: int) -> None:
    assert [passes("no connection", level=level) for _ in range(5)] == [True] + 4 * [False]


def test_a_failure_is_logged_again_after_the_quiet_time(
    passes: Callable[..., bool], time: Time
) -> None:
    passes("no connection")
    time.now_s += QUIET_S - 0.5
    assert not passes("no connection")

    time.now_s += 0.5

    assert passes("no connection")
    assert not passes("no connection")


def test_a_persistent_failure_is_logged_again_and_again(
    passes: Callable[..., bool], time: Time
) -> None:
    """Suppressed lines do not prolong the suppression."""
    logged = 0
    for _ in range(100):
        logged += passes("no connection")
        time.now_s += QUIET_S / 20

    assert logged == 5


def test_lines_with_different_arguments_are_distinct(passes: Callable[..., bool]) -> None:
    assert passes("cannot list %s: %s", "system", "the server answered 503")
    assert passes("cannot list %s: %s", "shared", "the server answered 503")
    assert passes("cannot list %s: %s", "shared", "no connection")
    assert not passes("cannot list %s: %s", "system", "the server answered 503")


def test_the_same_line_from_two_modules_is_logged_once(log_file: Path) -> None:
    configure_log_file(log_file)

    log.warning("no connection")
    logging.getLogger("invoicefs.of_another_module").warning("no connection")

    assert len(lines(log_file)) == 1


def test_a_traceback_is_logged_once(log_file: Path) -> None:
    configure_log_file(log_file)

    for _ in range(3):
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            log.exception("open failed unexpectedly")

    assert log_file.read_text().count("Traceback") == 1


# Verbosity


@pytest.mark.parametrize(
    ("verbosity", "logged"),
    [
        (0, ["error", "warning"]),
        (1, ["error", "warning", "info"]),
        (2, ["error", "warning", "info", "debug"]),
        (50, ["error", "warning", "info", "debug"]),
    ],
)
def test_verbosity_sets_the_level(log_file: Path, verbosity: int, logged: list[str]) -> None:
    configure_log_file(log_file, verbosity)

    log.error("error")
    log.warning("warning")
    log.info("info")
    log.debug("debug")

    assert [line.rsplit(" ", 1)[-1] for line in lines(log_file)] == logged


@pytest.mark.parametrize("verbosity", [0, 1, 2])
def test_errnos_passed_on_by_fusepy_are_not_logged(log_file: Path, verbosity: int) -> None:
    configure_log_file(log_file, verbosity)

    fuse = logging.getLogger("fuse")
    fuse.debug("FUSE operation getattr raised a <class 'FileNotFoundError'>, returning errno 2.")
    fuse.warning("a warning")
    fuse.error("Uncaught exception from FUSE operation %s, returning errno.EINVAL.", "open")

    assert len(lines(log_file)) == 1
    assert "Uncaught" in lines(log_file)[0]


# The request that failed


def failure(note: str | None, words: str = "no connection") -> Exception:
    error = InvoicefsError(words)
    if note is not None:
        error.add_note(note)
    return error


def raised_from(cause: BaseException) -> Exception:
    error = failure(None, "the PDF is too large")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (failure("GET /a: 503, request id 1"), "no connection [GET /a: 503, request id 1]"),
        (raised_from(failure("GET /a: 200")), "the PDF is too large [GET /a: 200]"),
        (raised_from(raised_from(failure("GET /a"))), "the PDF is too large [GET /a]"),
        (failure(None), "no connection"),
        (raised_from(ConnectionResetError(104, "lost")), "the PDF is too large"),
    ],
    ids=["its own", "of its cause", "of the cause of its cause", "none", "none of its cause"],
)
def test_a_line_ends_in_the_request_that_failed(
    log_file: Path, error: Exception, logged: str
) -> None:
    configure_log_file(log_file)

    log.warning("cannot list %s: %s", "system", error)

    (line,) = lines(log_file)
    assert line.endswith(f"WARNING: cannot list system: {logged}")


def test_failures_that_differ_only_in_their_requests_are_one_line(log_file: Path) -> None:
    configure_log_file(log_file)

    for request in range(3):
        log.warning("cannot list %s: %s", "system", failure(f"GET /a: 503, request id {request}"))
        log.warning("cannot list %s: %s", "shared", failure(f"GET /b: 503, request id {request}"))

    assert [line.rsplit("request id ", 1)[1] for line in lines(log_file)] == ["0]", "0]"]


# Destinations


def test_the_log_goes_to_the_file(log_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    configure(is_foreground=True, log_file=log_file, verbosity=0)

    log.warning("the server is away")

    (line,) = lines(log_file)
    assert "WARNING: the server is away" in line
    assert line[:4].isdigit(), "a line of a file begins with its date"
    assert capfd.readouterr() == ("", "")


def test_the_log_file_is_appended_to(log_file: Path) -> None:
    log_file.write_text("from the last mount\n")
    configure_log_file(log_file)

    log.warning("from this mount")

    assert lines(log_file)[0] == "from the last mount"
    assert len(lines(log_file)) == 2


def test_foreground_logs_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure(is_foreground=True, log_file=None, verbosity=0)

    log.warning("the server is away")

    assert capsys.readouterr() == ("", "invoicefs: WARNING: the server is away\n")


@pytest.mark.promise("With `--quiet` it prints no warnings, only errors.")
def test_quiet_logs_only_errors_to_stderr_and_keeps_the_warnings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failures = configure(is_foreground=True, log_file=None, verbosity=1, is_quiet=True)

    log.info("a request")
    log.warning("something works only in part")
    log.error("a bug")

    assert capsys.readouterr().err == "invoicefs: ERROR: a bug\n"
    assert [kept.words for kept in failures.latest(9)] == ["something works only in part", "a bug"]


def test_background_logs_to_syslog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with syslog_at(tmp_path / "log", monkeypatch) as syslog:
        configure(is_foreground=False, log_file=None, verbosity=0)

        log.warning("the server is away")

        message = syslog.recv(4096).decode()
    assert "invoicefs[" in message
    assert "WARNING: the server is away" in message
    assert capfd.readouterr() == ("", "")


@contextlib.contextmanager
def syslog_at(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    monkeypatch.setattr("invoicefs.mount.logs._SYSLOG_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.settimeout(20.0)
        syslog.bind(str(path))
        yield syslog


def test_a_missing_syslog_is_not_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with syslog_at(tmp_path / "log", monkeypatch):
        pass

    configure(is_foreground=False, log_file=None, verbosity=0)


@pytest.mark.parametrize("kind", ["nothing", "file"])
def test_background_without_syslog_is_silent(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    path = tmp_path / "log"
    if kind == "file":
        path.touch()
    monkeypatch.setattr("invoicefs.mount.logs._SYSLOG_SOCKET", path)
    configure(is_foreground=False, log_file=None, verbosity=2)

    log.error("the server is away")

    assert capfd.readouterr() == ("", "")


def test_configuring_again_replaces_the_handlers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(is_foreground=True, log_file=None, verbosity=2)
    configure_log_file(tmp_path / "second.log")

    log.warning("the server is away")
    log.info("more")

    assert len(lines(tmp_path / "second.log")) == 1
    assert capsys.readouterr() == ("", "")


def test_an_unwritable_log_file_is_an_error_of_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "invoicefs.log"

    with pytest.raises(UserError) as raised:
        configure(is_foreground=False, log_file=path, verbosity=0)

    sentence = str(raised.value)
    assert str(path) in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_an_unwritable_log_file_leaves_logging_unchanged(tmp_path: Path) -> None:
    handlers = logging.getLogger().handlers[:]

    with pytest.raises(UserError):
        configure(is_foreground=False, log_file=tmp_path, verbosity=0)

    assert logging.getLogger().handlers == handlers


@pytest.mark.promise("Text from a server cannot forge a line of the log, nor move a cursor.")
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nERROR: forged", r"a\nERROR: forged"),
        ("\x1b[2Jb\x07\r", r"\x1b[2Jb\x07\r"),
        ("invoice\u202efdp.exe", r"invoice\u202efdp.exe"),
        ("\u2066\u200b\ufeff\u061c", r"\u2066\u200b\ufeff\u061c"),
        ("\x85\u2028\u2029", r"\x85\u2028\u2029"),
        ("\udcff", r"\udcff"),
        ("ä 請求書 😀", "ä 請求書 😀"),
    ],
)
def test_control_characters_are_escaped_in_the_log(log_file: Path, name: str, shown: str) -> None:
    """A namespace name once forged log lines, and moved the cursor when the log was read."""
    configure_log_file(log_file)
    log.warning("The list of %s fails", name)

    (line,) = lines(log_file)
    assert line.endswith(f"WARNING: The list of {shown} fails")


def test_every_line_of_a_traceback_is_escaped(log_file: Path) -> None:
    configure_log_file(log_file)
    try:
        raise ValueError("one\x1b[2J")
    except ValueError:
        log.exception("It fails")

    assert len(lines(log_file)) > 3
    assert lines(log_file)[-1] == r"ValueError: one\x1b[2J"


def test_a_log_file_is_private_to_its_owner(log_file: Path) -> None:
    log_file.touch(mode=0o644)
    configure_log_file(log_file)

    assert stat.S_IMODE(log_file.stat().st_mode) == 0o600


def test_a_log_file_behind_a_symlink_is_refused(log_file: Path, tmp_path: Path) -> None:
    log_file.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(UserError, match="cannot be written"):
        configure_log_file(log_file)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_log_file_of_another_user_is_refused(log_file: Path) -> None:
    log_file.touch()
    os.chown(log_file, 12345, 12345)

    with pytest.raises(UserError, match="belongs to another user"):
        configure_log_file(log_file)


def test_a_pipe_without_a_reader_is_refused(log_file: Path) -> None:
    os.mkfifo(log_file)

    with pytest.raises(UserError, match="cannot be written"):
        configure_log_file(log_file)


def test_a_full_disk_is_an_error_before_the_mount_and_ignored_after_it() -> None:
    configure_log_file(Path("/dev/full"))
    with pytest.raises(UserError, match="No space left on device"):
        log.warning("before")

    logging.getLogger().handlers[0].close()
    configure_log_file(Path("/dev/full"))
    ignore_errors()
    log.warning("after")
