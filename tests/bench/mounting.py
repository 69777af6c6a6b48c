"""Mounts of any filesystem, which are always unmounted when the run ends.

Only the mounts below the folder of this run are ended, and the processes that have such a mount
point among their arguments.
"""

import os
import select
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import clock_gettime, monotonic

from invoicefs.mount.mountpoint import mounts
from tests.bench.contestants import Filesystem, Place
from tests.bench.rows import KIB
from tests.mount.support.mounts import FUSERMOUNT, argv_of
from tests.mount.support.programs import LIMIT_S, Argument, run, wait_for_exit

_POLL_MS = 10
_CPUCLOCK_SCHED = 2  # of the kernel: the kind of clock that counts the time of a process


@dataclass(frozen=True)
class Mounted:
    """A filesystem in use. `usable_s` is from the start of its command to the end of an ``ls``."""

    path: Path
    usable_s: float
    pids: tuple[int, ...]

    @property
    def server(self) -> int:
        """The process that serves it, which is the largest one."""
        return max(self.pids, key=_resident_bytes)

    @property
    def memory_bytes(self) -> int:
        """The resident memory of all its processes."""
        return sum(_resident_bytes(pid) for pid in self.pids)

    @property
    def cpu_s(self) -> float:
        """The CPU time of all its processes since their start."""
        return sum(map(_cpu_s, self.pids))


@contextmanager
def mounted(filesystem: Filesystem, place: Place) -> Iterator[Mounted]:
    """Mount a filesystem, wait until it is usable, and end its processes afterwards."""
    if filesystem.command is None:
        yield Mounted(place.local_files, 0.0, ())
        return
    began_s = monotonic()
    program = _start(filesystem.command(place), place)
    try:
        _wait_until_usable(program, place)
        usable_s = monotonic() - began_s
        if filesystem.returns:
            program.wait(LIMIT_S)
        yield Mounted(place.path, usable_s, processes_of(place.path))
    finally:
        end_mounts(place.path)
        if program.poll() is None:
            program.kill()
        program.wait()


def processes_of(path: Path) -> tuple[int, ...]:
    """Return the processes that have a path among their arguments."""
    return tuple(
        pid
        for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
        if os.fsencode(path) in argv_of(pid)
    )


def end_mounts(folder: Path) -> None:
    """Unmount all mounts on a folder or below it, and end the processes that served them."""
    for mount in reversed(mounts()):
        path = Path(mount.path)
        if path.is_relative_to(folder):
            pids = processes_of(path)
            run(FUSERMOUNT, "-u", "-z", path)
            for pid in pids:
                _end(pid)


def _start(command: Sequence[Argument], place: Place) -> "subprocess.Popen[bytes]":
    # The output goes to a file: some programs would fill a pipe that is not read.
    with open(place.output, "wb") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **place.environment},
            cwd="/",
        )


def _wait_until_usable(program: "subprocess.Popen[bytes]", place: Place) -> None:
    with open("/proc/self/mountinfo", "rb") as mountinfo:
        changes = select.poll()
        changes.register(mountinfo, select.POLLPRI)  # as described in proc(5)
        ends_s = monotonic() + LIMIT_S
        while not any(mount.path == str(place.path) for mount in mounts()):
            has_failed = program.poll() or monotonic() > ends_s
            assert not has_failed, f"it does not mount: {place.last_output_line}"
            changes.poll(_POLL_MS)
    run("ls", place.path).good()


def _end(pid: int) -> None:
    if not wait_for_exit(pid, LIMIT_S / 3):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _cpu_s(pid: int) -> float:
    """Return the CPU time of all threads of a process, including ended ones; 0 if it has ended.

    /proc has it in units of 10 ms, and more precisely only for each running thread.
    """
    with suppress(OSError):
        return clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)  # as in clock_getcpuclockid(3)
    return 0.0


def _resident_bytes(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * KIB
    return 0
