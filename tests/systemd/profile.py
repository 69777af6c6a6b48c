"""A profile of a user, and the units that belong to it."""

from collections.abc import Mapping
from pathlib import Path

from tests.mount.support.mounts import is_mounted
from tests.mount.support.programs import Ended
from tests.systemd.account import Account


class Profile:
    """A profile with these variables, and its units."""

    def __init__(self, account: Account, name: str, variables: Mapping[str, str]) -> None:
        self.account = account
        self.mount_unit = f"invoicefs@{name}.service"
        self.archive_unit = f"invoicefs-archive@{name}.service"
        self.timer = f"invoicefs-archive@{name}.timer"
        self.mount_point = Path(variables.get("INVOICEFS_MOUNTPOINT", account.home / name))
        self.archive = Path(variables.get("INVOICEFS_ARCHIVE", ""))
        account.write_profile(name, variables)

    def start_archive(self) -> Ended:
        """Start the archive service, and wait for its end."""
        return self.account.systemctl("start", self.archive_unit)

    @property
    def archive_status(self) -> int:
        """The exit status of the last command of the archive service."""
        return int(self.account.property_of(self.archive_unit, "ExecMainStatus"))

    @property
    def report(self) -> str:
        """What the programs of the archive service have printed."""
        return self.account.journal(f"--identifier={self.archive_unit.removesuffix('.service')}")

    @property
    def is_mounted(self) -> bool:
        """Whether it is mounted."""
        return is_mounted(self.mount_point)

    @property
    def archived(self) -> dict[str, bytes]:
        """The content of each file in the archive."""
        files = [path for path in self.archive.rglob("*") if path.is_file()]
        return {path.name: path.read_bytes() for path in files}

    def close(self) -> None:
        """End and disable the units."""
        self.account.systemctl("disable", self.timer, self.mount_unit).good()
        for unit in (self.timer, self.archive_unit, self.mount_unit):
            self.account.systemctl("stop", unit).good()
        assert not self.is_mounted, self.account.journal()
