"""A user of a machine with systemd, who has installed invoicefs as README.md describes."""

import pwd
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.mount.support.mounts import CHECKOUT
from tests.mount.support.programs import Argument, Ended, eventually, run

USER_UNITS = sorted((CHECKOUT / "invoicefs/share/systemd/user").iterdir())
_INSTALLATION_LIMIT_S = 100.0


@dataclass(frozen=True)
class Process:
    """A process as in /proc; its environment and arguments have NUL bytes between them."""

    uids: frozenset[int]
    name: str
    environment: str
    arguments: str


class Account:
    """A new user, whose service manager runs from now on."""

    def __init__(self, name: str) -> None:
        run("useradd", "--create-home", name).good()
        entry = pwd.getpwnam(name)
        self.home = Path(entry.pw_dir)
        self._name = name
        self._uid = entry.pw_uid
        run("loginctl", "enable-linger", name).good()
        eventually(lambda: run("systemctl", "is-active", f"user@{self._uid}").code == 0)

    def run(self, *argv: Argument, timeout_s: float = 60.0) -> Ended:
        """Run a program as this user, with the variables of a login."""
        variables = (
            f"HOME={self.home}",
            f"PATH={self.home}/.local/bin:/usr/bin:/bin",
            f"XDG_RUNTIME_DIR=/run/user/{self._uid}",
        )
        as_user = ("runuser", "--user", self._name, "--", "env", "--chdir", self.home)
        return run(*as_user, *variables, *argv, timeout_s=timeout_s)

    def install(self) -> None:
        """Install the checkout and its units as pipx does."""
        checkout = self.home / "checkout"
        shutil.copytree(CHECKOUT, checkout, ignore=shutil.ignore_patterns(".*"))
        self.own(checkout)
        environment = self.home / ".local" / "share" / "pipx" / "venvs" / "invoicefs"
        pip = (environment / "bin" / "pip", "install", "--quiet", checkout)
        self.run("python3", "-m", "venv", environment, timeout_s=_INSTALLATION_LIMIT_S).good()
        self.run(*pip, timeout_s=_INSTALLATION_LIMIT_S).good()
        programs = self.home / ".local" / "bin"
        self.run("mkdir", programs).good()
        self.run("ln", "--symbolic", environment / "bin" / "invoicefs", programs).good()
        units = self.home / ".config" / "systemd" / "user"
        self.run("mkdir", "--parents", units).good()
        self.run("cp", *USER_UNITS, units).good()
        self.systemctl("daemon-reload").good()

    def override(self, unit: str, text: str) -> None:
        """Add settings to a unit, as ``systemctl edit`` does."""
        folder = self.home / ".config" / "systemd" / "user" / f"{unit}.d"
        folder.mkdir()
        (folder / "override.conf").write_text(text)
        self.systemctl("daemon-reload").good()

    def new_folder(self, name: str) -> Path:
        """Return an empty folder in this user's home."""
        folder = self.home / name
        self.run("mkdir", folder).good()
        return folder

    def own(self, path: Path) -> None:
        """Give a folder and all that is in it to this user."""
        run("chown", "--recursive", f"{self._uid}:{self._uid}", path).good()

    def write_profile(self, name: str, variables: Mapping[str, str]) -> None:
        """Write a profile as ``invoicefs login`` does."""
        folder = self.home / ".config" / "invoicefs"
        folder.mkdir(mode=0o700, exist_ok=True)
        file = folder / f"{name}.env"
        file.touch(mode=0o600)
        file.write_text("".join(f"{key}={value}\n" for key, value in variables.items()))
        self.own(folder)

    def systemctl(self, *arguments: str) -> Ended:
        """Run ``systemctl --user``."""
        return self.run("systemctl", "--user", *arguments)

    def property_of(self, unit: str, name: str) -> str:
        """Return a property of a unit, see org.freedesktop.systemd1(5)."""
        return self.systemctl("show", "--value", f"--property={name}", unit).good().text.strip()

    def journal(self, *matches: str) -> str:
        """Return the messages in this user's journal that match, see journalctl(1)."""
        run("journalctl", "--sync").good()
        return self.run("journalctl", "--user", "--quiet", "--output=cat", *matches).good().text

    def processes(self) -> list[Process]:
        """Return this user's processes."""
        found = map(_process, Path("/proc").glob("[0-9]*"))
        return [process for process in found if process and self._uid in process.uids]


def _process(folder: Path) -> Process | None:
    """Return a process from its folder in /proc; None if it has just ended."""
    try:
        lines = (folder / "status").read_text().splitlines()
        (uids,) = [line.split()[1:] for line in lines if line.startswith("Uid:")]
        texts = [
            (folder / name).read_bytes().decode("utf-8", "replace")
            for name in ("comm", "environ", "cmdline")
        ]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Process(frozenset(map(int, uids)), texts[0].strip(), *texts[1:])
