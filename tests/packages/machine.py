"""A machine with Debian 12 or 13, booted by systemd-nspawn, which is thrown away."""

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from tests.mount.support.mounts import CHECKOUT
from tests.mount.support.programs import LIMIT_S, Ended, Running, eventually, run, started

_BOOT = "source scripts/prepare.sh; source scripts/machines.sh; boot_machine {} {}"
_APT_LIMIT_S = 240.0  # it downloads packages
_BOOT_LIMIT_S = 120.0
_USER = "alice"
_ENVIRONMENT = (
    "LANG=C.UTF-8",
    "DEBIAN_FRONTEND=noninteractive",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
)
_NO_VARIABLES: Mapping[str, str] = MappingProxyType({})
# What dpkg, apt, the indexes of manual pages and libraries, and running services write.
_CHANGING = (
    *("/dev", "/proc", "/run", "/sys", "/tmp", "/var/tmp"),  # noqa: S108 -- of the machine
    *("/var/cache/apt", "/var/cache/debconf", "/var/cache/ldconfig", "/var/cache/man"),
    *("/var/backups", "/var/lib/apt", "/var/lib/dpkg", "/var/lib/systemd", "/var/log"),
)


class Machine:
    """A running machine, whose process 1 is the process `leader` here.

    It shares the network with this machine, so it can use an API server of a test.
    """

    def __init__(self, leader: int, package: str) -> None:
        self._leader = leader
        self._package = package

    def root(self, script: str, timeout_s: float = LIMIT_S) -> Ended:
        """Run a script of bash as root, up to the first command that fails."""
        return self._run(("HOME=/root",), "bash", "-euc", script, timeout_s=timeout_s)

    def user(
        self,
        script: str,
        variables: Mapping[str, str] = _NO_VARIABLES,
        timeout_s: float = LIMIT_S,
    ) -> Ended:
        """Run a script of bash as the user, with the variables of a login and these."""
        uid = self.root(f"id --user {_USER}").good().text.strip()
        login = (f"HOME=/home/{_USER}", f"USER={_USER}", f"XDG_RUNTIME_DIR=/run/user/{uid}")
        own = (f"{name}={value}" for name, value in variables.items())
        as_user = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--init-groups", "--")
        argv = (*as_user, "bash", "-euc", f"cd; {script}")
        return self._run((*login, *own), *argv, timeout_s=timeout_s)

    def add_user(self) -> None:
        """Add the user, whose service manager runs from now on."""
        self.root(
            f"useradd --create-home {_USER}; systemctl start user@$(id --user {_USER})"
        ).good()

    def install(self) -> None:
        """Install the package, as README says."""
        self.apt_get(f"install /packages/{self._package}")

    def apt_get(self, arguments: str) -> None:
        """Run ``apt-get`` with these arguments, and confirm what it asks."""
        self.root(f"apt-get -y -q {arguments}", _APT_LIMIT_S).good()

    def files(self) -> set[str]:
        """Return all files and folders but those that change without the package, too."""
        changing = " -o ".join(f"-path {path}" for path in _CHANGING)
        return set(self.root(f"find / \\( {changing} \\) -prune -o -print").good().lines)

    def has_booted(self) -> bool:
        """Wait until the services have been started, if process 1 can be asked already."""
        state = self.root("systemctl is-system-running --wait || true", _BOOT_LIMIT_S)
        # "degraded": a service that these tests do not need cannot run here.
        return state.text.strip() in ("running", "degraded")

    def switch_off(self) -> None:
        """Begin to end all services, and then the machine: see systemd(1), signals."""
        self.root("kill -s RTMIN+4 1").good()

    def _run(self, variables: tuple[str, ...], *argv: str, timeout_s: float = LIMIT_S) -> Ended:
        namespaces = ("--mount", "--uts", "--ipc", "--pid", "--root")
        enter = ("nsenter", f"--target={self._leader}", *namespaces, "--")
        environment = ("env", "--chdir=/", "--ignore-environment", *_ENVIRONMENT, *variables)
        return run(*enter, *environment, *argv, timeout_s=timeout_s)


@contextmanager
def booted(suite: str, package: Path) -> Iterator[Machine]:
    """Boot a machine on which the package can be installed."""
    script = _BOOT.format(suite, shlex.quote(str(package)))
    with started("bash", "-euc", script, env=os.environ, cwd=CHECKOUT) as program:
        leader = eventually(lambda: _process_1(program), _BOOT_LIMIT_S)
        machine = Machine(leader, package.name)
        eventually(machine.has_booted, _BOOT_LIMIT_S)
        machine.apt_get("update")
        try:
            yield machine
        finally:
            machine.switch_off()  # a killed machine leaves its control groups here
            program.end()


def _process_1(program: Running) -> int:
    """Return the process 1 of the machine; 0 if there is none yet."""
    assert not program.has_ended, program.end().err
    pid = program.process.pid
    # The scripts that boot it run programs which end at once.
    with suppress(FileNotFoundError, ProcessLookupError):
        while "Name:\tsystemd\n" not in Path(f"/proc/{pid}/status").read_text():
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if not children:
                return 0
            pid = int(children[0])
        return pid
    return 0
