"""Mounts made by the real command, which are always unmounted when the test ends."""

import os
import shutil
import signal
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from itertools import count
from pathlib import Path
from types import MappingProxyType

import pytest

import invoicefs
from invoicefs.kernel import stat_program
from invoicefs.mount.mountpoint import FILESYSTEM_TYPE, mounts
from invoicefs.sandbox import Sandbox
from tests.mount.support.programs import (
    LIMIT_S,
    Argument,
    Ended,
    Running,
    run,
    started,
    wait_for_exit,
)

Environment = Mapping[str, str | None]

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")
FUSERMOUNT = shutil.which("fusermount3") or "fusermount"
CHECKOUT = Path(invoicefs.__file__).parents[1]
_STAT_HELPER = os.fsencode(stat_program.__file__)
_COMMANDS = {b"invoicefs", b"mount.invoicefs"}


class Role(IntEnum):
    """What a process does for a mount: serve it, or help the process that does."""

    COMMAND = 0
    HELPER = 1


@dataclass(frozen=True)
class Mount:
    """A mount: its path, its log, and the processes that serve it."""

    path: Path
    log: Path
    pids: tuple[int, ...]

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def is_mounted(self) -> bool:
        """Whether the kernel still lists it; does not access it."""
        return is_mounted(self.path)

    @property
    def daemon(self) -> int:
        """The process that serves the mount."""
        return self.pids[0]

    @property
    def stat_helper(self) -> int:
        """The helper that checks the mount from outside."""
        (pid,) = [pid for pid in self.pids if _STAT_HELPER in argv_of(pid)]
        return pid

    @property
    def warnings(self) -> list[str]:
        """The warnings in the log."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if "WARNING" in line]

    def wait_until_ended(self, timeout_s: float = LIMIT_S) -> None:
        """Wait until all of its processes have ended."""
        for pid in self.pids:
            assert wait_for_exit(pid, timeout_s), f"process {pid} of {self.path} does not end"

    def kill(self) -> None:
        """Kill the process, and before it the helper that would clean up after it."""
        stat_helpers = [pid for pid in self.pids if _STAT_HELPER in argv_of(pid)]
        others = [pid for pid in reversed(self.pids) if pid not in stat_helpers]
        for pid in (*others, *stat_helpers):
            with suppress(ProcessLookupError):  # the helper ends with the process that it helps
                os.kill(pid, signal.SIGKILL)
        try:
            self.wait_until_ended()
        except AssertionError:
            run("umount", "--force", self.path)  # unblocks all processes that wait for the mount
            raise


_ALONE = """
import os, subprocess, sys
from invoicefs.mount.mountpoint import invoicefs_mounts
folder, *command = sys.argv[1:]
for mount in invoicefs_mounts():
    if not mount.path.startswith(f"{folder}/"):
        # This fails if the test that the mount belongs to has just removed it.
        subprocess.run(["umount", "--lazy", mount.path], check=False)
os.execvp(command[0], command)
"""


class Mounts:
    """Mounts below one folder, with one home and one cache, as one user.

    `prefix` runs a program as another user, and `command_prefix` runs ``invoicefs`` as that user,
    with `variables` in its environment.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        folder: Path,
        prefix: Sequence[str] = (),
        command_prefix: Sequence[str] = (),
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.sandbox = sandbox
        self.folder = folder
        self._prefix = prefix
        self._command_prefix = command_prefix
        self._variables = variables
        self._numbers = count(1)
        self._paths: list[Path] = []
        self.run("mkdir", "--parents", "--mode=700", self._runtime).good()

    @property
    def _runtime(self) -> Path:
        """The value of ``XDG_RUNTIME_DIR``."""
        return self.folder / "runtime"

    @property
    def cache(self) -> Path:
        """The value of ``XDG_CACHE_HOME``."""
        return self.folder / "cache"

    @property
    def environment(self) -> dict[str, str]:
        """The complete environment of the command, which contains no proxies."""
        return {
            "HOME": str(self.folder / "home"),
            "XDG_CACHE_HOME": str(self.cache),
            "XDG_RUNTIME_DIR": str(self._runtime),
            "INVOICEFS_TOKEN": self.sandbox.token,
            "INVOICEFS_URL": self.sandbox.url,
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONDONTWRITEBYTECODE": "1",
            **self._variables,
        }

    def run(self, *argv: Argument, timeout_s: float = LIMIT_S) -> Ended:
        """Run a program as the user of these mounts."""
        return run(*self._prefix, *argv, timeout_s=timeout_s)

    def new_path(self, name: str | None = None) -> Path:
        """An empty folder to mount on."""
        path = self.folder / (name or f"mnt-{next(self._numbers)}")
        self.run("mkdir", "--parents", path).good()
        self._paths.append(path)
        return path

    def command(
        self, *arguments: Argument, cwd: Path = Path("/"), env: Environment | None = None
    ) -> Ended:
        """Run ``invoicefs`` outside the checkout; a variable that is None is not set."""
        with self.started(*arguments, cwd=cwd, env=env) as running:
            return running.end()

    @property
    def alone_prefix(self) -> tuple[str, ...]:
        """The arguments that run a program as `alone` runs ``invoicefs``."""
        in_namespace = ("unshare", "--mount", "--propagation", "private")
        return (*in_namespace, sys.executable, "-c", _ALONE, str(self.folder))

    def alone(self, *arguments: Argument, env: Environment | None = None) -> Ended:
        """Run ``invoicefs`` in a mount namespace that has only these mounts, not other tests'.

        This requires root. A variable that is None is not set.
        """
        command = (*self._command_prefix, sys.executable, "-m", "invoicefs")
        argv = (*self.alone_prefix, *command, *arguments)
        return run(*argv, env=self._merged(env), cwd=Path("/"))

    @contextmanager
    def started(
        self, *arguments: Argument, cwd: Path = Path("/"), env: Environment | None = None
    ) -> Iterator[Running]:
        """Start ``invoicefs`` in the background."""
        with self.started_module("invoicefs", *arguments, cwd=cwd, env=env) as running:
            yield running

    @contextmanager
    def started_module(
        self, *arguments: Argument, cwd: Path = Path("/"), env: Environment | None = None
    ) -> Iterator[Running]:
        """Start a module of the checkout, the first argument, in the background."""
        argv = (*self._command_prefix, sys.executable, "-m", *arguments)
        with started(*argv, env=self._merged(env), cwd=cwd) as running:
            yield running

    def _merged(self, env: Environment | None) -> dict[str, str]:
        merged = {**self.environment, **(env or {})}
        return {name: value for name, value in merged.items() if value is not None}

    @contextmanager
    def started_python(self, source: str, *arguments: Argument) -> Iterator[Running]:
        """Start a Python program in the background as the user of these mounts."""
        argv = (*self._command_prefix, sys.executable, "-I", "-c", source, *arguments)
        with started(*argv, cwd=Path("/")) as running:
            yield running

    def mount(self, *options: str, path: Path | None = None, words: str = "") -> Mount:
        """Mount on `path` or a new folder; the command succeeds with `words` on stderr."""
        path = path or self.new_path()
        log = self.folder / f"{path.name}.log"
        ended = self.command("mount", *options, "--log-file", log, path).good()
        assert ended.out == b""
        assert words in ended.err if words else ended.err == ""
        return self.at(path)

    def at(self, path: Path) -> Mount:
        """Return the mount on a path that `mount` did not create; `close` unmounts it, too."""
        self._paths.append(path)
        return Mount(path, self.folder / f"{path.name}.log", processes_of(path))

    def umount(self, mount: Mount, *options: str) -> None:
        """Unmount with the real command, and wait until its processes are gone."""
        self.command("umount", *options, mount.path).good()
        mount.wait_until_ended()
        assert not mount.is_mounted

    def close(self) -> None:
        """Unmount all; fail if a process does not end, or if a log has a traceback or token."""
        stuck = [path for path in dict.fromkeys(self._paths) if not _end(path)]
        assert not stuck, f"the processes of {stuck} did not end after the unmount"
        for log in self.folder.glob("*.log"):
            lines = log.read_text(encoding="utf-8", errors="replace")
            for word in ("Traceback", "Unexpected", self.sandbox.token):
                assert word not in lines, lines


def is_mounted(path: Path) -> bool:
    """Whether invoicefs is mounted on a path; does not access it."""
    return path in _our_mounts()


def processes_of(path: Path) -> tuple[int, ...]:
    """Return the processes that serve a mount or are about to; those of the command first."""
    found = {pid: _role(pid, path) for pid in map(int, filter(str.isdigit, os.listdir("/proc")))}
    ours = [(role, pid) for pid, role in found.items() if role is not None]
    return tuple(pid for _, pid in sorted(ours))  # by role, because process ids wrap around


def sweep(folder: Path, *, only_dead: bool) -> None:
    """Unmount all mounts below a folder, or only those without a process."""
    for path in _our_mounts():
        if path.is_relative_to(folder) and not (only_dead and _is_alive(path)):
            _end(path)


def permissions(folder: Path) -> dict[str, str]:
    """Return the modes of a folder and of all files and folders below it."""
    found = (folder, *folder.rglob("*"))
    return {str(path.relative_to(folder)): stat.filemode(path.lstat().st_mode) for path in found}


def _our_mounts() -> list[Path]:
    found = [mount for mount in mounts() if mount.filesystem_type == FILESYSTEM_TYPE]
    return [Path(mount.path) for mount in reversed(found)]  # the last mounted first


def _role(pid: int, path: Path) -> Role | None:
    """Return the role of a process for a mount, or None."""
    argv = argv_of(pid)
    if os.fsencode(path) not in argv:
        return None
    if os.path.basename(argv[0]).startswith(b"fusermount") or _STAT_HELPER in argv:
        return Role.HELPER
    return Role.COMMAND if _COMMANDS & set(map(os.path.basename, argv)) else None


def argv_of(pid: int) -> list[bytes]:
    """Return the arguments of a process; an empty list if it has just ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _is_alive(path: Path) -> bool:
    return bool(processes_of(path)) or run("stat", path).code == 0


def _end(path: Path) -> bool:
    """Unmount, by force if necessary; return whether the processes ended by themselves."""
    pids = processes_of(path)
    while is_mounted(path):
        before = len(_our_mounts())
        run(FUSERMOUNT, "-u", "-z", path)
        if is_mounted(path) and len(_our_mounts()) == before:
            run("umount", "--lazy", path).good()
    have_ended = [wait_for_exit(pid) for pid in pids]
    for pid, has_ended in zip(pids, have_ended, strict=True):
        if not has_ended:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return all(have_ended)
