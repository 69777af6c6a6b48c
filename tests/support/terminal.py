"""Types into a program that runs in a real pseudo-terminal, as its controlling terminal."""

import os
import pty
import select
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.mount.support.programs import LIMIT_S, eventually

CTRL_C = "\x03"
CTRL_D = "\x04"


class Typed(NamedTuple):
    """A program that has ended: its exit code, and everything that the terminal showed."""

    code: int
    screen: str


def typed(
    *argv: str | Path,
    env: Mapping[str, str],
    answers: Sequence[tuple[str, str]],
) -> Typed:
    """Run a program until it ends; type each answer when the text before it has appeared."""
    master, slave = pty.openpty()
    screen = b""
    with subprocess.Popen(
        ["setsid", "--ctty", *argv],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TERM": "xterm", **env},
        cwd="/",
    ) as process:
        os.close(slave)
        try:
            for prompt, answer in answers:
                seen = len(screen)
                while prompt.encode() not in screen[seen:]:
                    part = _read(master)
                    assert part, f"{prompt!r} does not appear: {screen.decode()}"
                    screen += part
                # A signal that arrives just before the read would be noticed only after it.
                eventually(lambda: _is_waiting(process.pid))
                os.write(master, answer.encode())
            while part := _read(master):
                screen += part
            process.wait(LIMIT_S)
        finally:
            process.kill()
            os.close(master)
    return Typed(process.returncode, screen.decode().replace("\r\n", "\n"))


def _is_waiting(pid: int) -> bool:
    """Whether the main thread of a process sleeps, see proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def _read(master: int) -> bytes:
    """Return what the terminal shows next; empty when the program has ended."""
    assert select.select([master], [], [], LIMIT_S)[0], "the program shows nothing"
    try:
        return os.read(master, 4096)
    except OSError:  # EIO: nobody has the other side open
        return b""
