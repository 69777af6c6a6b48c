"""A mount that a server serves, and where the server keeps its files."""

from dataclasses import dataclass, replace
from pathlib import Path

from tests.mount.support.mounts import Mount, Mounts
from tests.mount.support.tenants import contents, invoice, tenant
from tests.serving.running_server import MEMBER

SIZES = (1000, 64 * 1024, 65_537, 300_000)
TENANT = tenant(*(invoice(number, size) for number, size in enumerate(SIZES * 5)))
CONTENTS = contents(TENANT)

# A server may send all of the long one before a client has read it.
LONG, SHORT = (
    b"%PDF-1.4\n" + letter * size + b"%%EOF\n" for letter, size in ((b"o", 500_000), (b"n", 1500))
)
FINAL = replace(invoice(5), pdf=SHORT)
DRAFT = replace(FINAL, pdf=LONG, active=True, status="STATUS_PENDING", amount="100")


@dataclass(frozen=True)
class ServedFolder:
    """Mounts as the examples ask for, whose files only root and `MEMBER` can read."""

    mounts: Mounts

    def mount(self, *options: str) -> Mount:
        """Mount the tenant with these options and those of the examples."""
        return self.mounts.mount(
            *("--fetch", "on-stat", "--allow-other", f"--gid={MEMBER.group}", "--umask=027"),
            *options,
        )

    def new_folder(self, name: str) -> Path:
        """Make a folder for a server that runs as `MEMBER`, or as root."""
        path = self.mounts.folder / name
        self.mounts.run("install", "-d", "-o", MEMBER.name, path).good()
        return path
