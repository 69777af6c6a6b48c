"""Programs that look into a mount, none of them without a time limit.

A process inside a FUSE call cannot be killed before that call is answered. So the test process
itself never touches a mount, and what it starts is waited for with a bound.
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

LIMIT_S = 30.0  # nothing comes near it; what does is stuck
_POLL_S = 0.02

Argument = str | bytes | Path


@dataclass(frozen=True)
class Ended:
    """A program that has ended: its exit code, and what it wrote."""

    argv: Sequence[Argument]
    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """What it wrote to stdout."""
        return self.out.decode("utf-8", "surrogateescape")

    @property
    def lines(self) -> list[str]:
        """What it wrote to stdout, line by line."""
        return self.text.splitlines()

    def good(self) -> "Ended":
        """The same, after making sure that it ended well."""
        assert self.code == 0, f"{self.argv} ended with {self.code}: {self.err}"
        return self


class Running:
    """A program that has been started."""

    def __init__(self, argv: Sequence[Argument], process: "subprocess.Popen[bytes]") -> None:
        self.argv = argv
        self.process = process

    @property
    def has_ended(self) -> bool:
        """Whether it has ended by now."""
        return self.process.poll() is not None

    def line(self, timeout_s: float = LIMIT_S) -> str:
        """Wait for the next line that it writes to stdout; empty where it ends before."""
        stream = self.process.stdout
        assert stream is not None
        assert select.select([stream], [], [], timeout_s)[0], f"{self.argv} says nothing"
        return stream.readline().decode().rstrip("\n")

    def go_on(self) -> None:
        """Send it an empty line, for which it waits."""
        self.say("")

    def say(self, words: str) -> None:
        """Send it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{words}\n".encode())

    def end(self, timeout_s: float = LIMIT_S) -> Ended:
        """Wait for its end."""
        try:
            out, err = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()  # and not waited for: it may be stuck in the mount
            raise
        return Ended(self.argv, self.process.returncode, out, err.decode("utf-8", "replace"))


def is_obligatory() -> bool:
    """Whether these tests have to run: a suite that skips itself silently proves nothing."""
    return bool(os.environ.get("CI"))


def missing(what: str) -> NoReturn:
    """Skip the test for want of something on this machine; fail it where it has to run."""
    if is_obligatory():
        pytest.fail(f"{what}, and tests are not skipped where CI is set", pytrace=False)
    pytest.skip(what)


@contextmanager
def started(
    *argv: Argument, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[Running]:
    """A program that runs beside the test; it is killed where it has not ended at the end."""
    try:
        process = subprocess.Popen(
            argv,
            bufsize=0,  # so that reading a line takes no more than that from the pipe
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
    """Run a program to its end."""
    with started(*argv, env=env, cwd=cwd) as running:
        return running.end(timeout_s)


def python(source: str, *arguments: Argument, timeout_s: float = LIMIT_S) -> Ended:
    """Run a Python program, which finds the arguments in ``sys.argv[1:]``."""
    return run(sys.executable, "-I", "-c", source, *arguments, timeout_s=timeout_s)


def eventually(check: Callable[[], T], timeout_s: float = LIMIT_S) -> T:
    """The first true result of `check`; fails where there is none in time."""
    never = threading.Event()
    give_up_s = time.monotonic() + timeout_s
    while True:
        if result := check():
            return result
        assert time.monotonic() < give_up_s, f"it did not happen within {timeout_s:g} s"
        never.wait(_POLL_S)


def wait_for_exit(pid: int, timeout_s: float = LIMIT_S) -> bool:
    """Wait until a process has ended, also one that is not a child; says whether it has."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], timeout_s)[0])
    finally:
        os.close(pidfd)
