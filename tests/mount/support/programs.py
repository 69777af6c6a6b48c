"""Programs that access a mount, each with a time limit.

A process inside a FUSE request cannot be killed before the request is answered. So the test
process itself never accesses a mount, and it waits for its child processes with a time limit.
"""

import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

T = TypeVar("T")

LIMIT_S = 30.0  # far longer than anything takes unless it is stuck
_POLL_S = 0.02
_LONGEST_OUTPUT_CHARS = 4000

Argument = str | bytes | Path


@dataclass(frozen=True)
class Ended:
    """A program that has ended: its exit code and its output."""

    argv: Sequence[Argument]
    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Its stdout as text."""
        return self.out.decode("utf-8", "surrogateescape")

    @property
    def lines(self) -> list[str]:
        """The lines of its stdout."""
        return self.text.splitlines()

    def good(self) -> "Ended":
        """Return itself; fail if the exit code is not 0."""
        said = self.err or self.text[-_LONGEST_OUTPUT_CHARS:]  # pytest prints to stdout
        assert self.code == 0, f"{self.argv} exited with {self.code}: {said}"
        return self


class Running:
    """A program in the background."""

    def __init__(self, argv: Sequence[Argument], process: "subprocess.Popen[bytes]") -> None:
        self.argv = argv
        self.process = process

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def line(self, timeout_s: float = LIMIT_S) -> str:
        """Wait for the next line of its stdout; empty if it ends first."""
        stream = self.process.stdout
        assert stream is not None
        assert select.select([stream], [], [], timeout_s)[0], f"{self.argv} prints nothing"
        return stream.readline().decode().rstrip("\n")

    def go_on(self) -> None:
        """Send it the empty line that it waits for."""
        self.say("")

    def say(self, words: str) -> None:
        """Send it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{words}\n".encode())

    def end(self, timeout_s: float = LIMIT_S) -> Ended:
        """Wait until it has ended."""
        try:
            out, err = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()  # without waiting: it may be stuck in the mount
            raise
        return Ended(self.argv, self.process.returncode, out, err.decode("utf-8", "replace"))


def is_obligatory() -> bool:
    """Whether these tests must not be skipped: a suite of skipped tests proves nothing."""
    return bool(os.environ.get("CI"))


def missing(what: str) -> NoReturn:
    """Skip the test because this machine lacks something; fail it if it must run."""
    if is_obligatory():
        pytest.fail(f"{what}, and tests are not skipped where CI is set", pytrace=False)
    pytest.skip(what)


@contextmanager
def started(
    *argv: Argument, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[Running]:
    """Start a program in the background; kill it if it has not ended by itself."""
    try:
        process = subprocess.Popen(
            argv,
            bufsize=0,  # so that reading a line takes only that line from the pipe
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC", **(env or {})},
            cwd=cwd,
        )
    except FileNotFoundError as error:
        missing(f"the program {error.filename} is missing")
    try:
        yield Running(argv, process)
    finally:
        if process.poll() is None:
            process.kill()
            wait_for_exit(process.pid)
            process.poll()
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def run(
    *argv: Argument,
    timeout_s: float = LIMIT_S,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Ended:
    """Run a program until it ends."""
    with started(*argv, env=env, cwd=cwd) as running:
        return running.end(timeout_s)


def python(source: str, *arguments: Argument, timeout_s: float = LIMIT_S) -> Ended:
    """Run a Python program, with the arguments in ``sys.argv[1:]``."""
    return run(sys.executable, "-I", "-c", source, *arguments, timeout_s=timeout_s)


def eventually(check: Callable[[], T], timeout_s: float = LIMIT_S) -> T:
    """Return the first true result of `check`; fail if there is none in time."""
    never = threading.Event()
    deadline_s = time.monotonic() + timeout_s
    while True:
        if result := check():
            return result
        assert time.monotonic() < deadline_s, f"it did not happen within {timeout_s:g} s"
        never.wait(_POLL_S)


def wait_for_exit(pid: int, timeout_s: float = LIMIT_S) -> bool:
    """Wait for the end of a process, which need not be a child; return whether it ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], timeout_s)[0])
    finally:
        os.close(pidfd)
