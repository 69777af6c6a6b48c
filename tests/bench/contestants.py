"""The contestants: filesystems with the commands that mount them, and the pipelines.

Each runs as a user who wants an archive would run it, with the flags that its manual recommends
for that.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from tests.bench.pipelines import CLIENT, SEQUENTIAL, XARGS, Pipeline
from tests.bench.server import Addresses
from tests.mount.support.mounts import CHECKOUT
from tests.mount.support.programs import Argument


@dataclass(frozen=True)
class Place:
    """Where a filesystem is mounted, and what it may use; `home` is new and not shared.

    `options` are options of invoicefs, whose code is that of `checkout`.
    """

    path: Path
    home: Path
    cache: Path
    local_files: Path
    addresses: Addresses
    checkout: Path
    options: Sequence[str] = ()

    @property
    def output(self) -> Path:
        """The file with the output of the command."""
        return self.home / "output"

    @property
    def last_output_line(self) -> str:
        """The last line of the output."""
        lines = self.output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "no output"

    @property
    def environment(self) -> dict[str, str]:
        """The complete environment of the command, which contains no proxies."""
        bundle = self.addresses.ca_bundle
        return {
            "HOME": str(self.home),
            "XDG_CACHE_HOME": str(self.cache),
            "PYTHONPATH": str(self.checkout),
            "INVOICEFS_TOKEN": self.addresses.token,
            "INVOICEFS_URL": self.addresses.api_url,
            **({"INVOICEFS_CA_BUNDLE": bundle} if bundle else {}),
        }


@dataclass(frozen=True)
class Filesystem:
    """A filesystem and the command that mounts it; if that is None, it is not mounted.

    It serves the namespaces of the tenant as folders. The command runs as long as the mount, or
    `returns` when the mount is usable. `program` and the Python package `module` must be
    installed. Python imports the modules of the command from `checkout`.
    """

    name: str
    command: Callable[[Place], Sequence[Argument]] | None
    program: str = ""
    module: str = ""
    returns: bool = False
    checkout: Path = CHECKOUT


def _invoicefs(place: Place) -> Sequence[Argument]:
    log = place.home / "invoicefs.log"
    command = (sys.executable, "-m", "invoicefs", "mount")
    return (*command, *place.options, "--log-file", log, place.path)


def _rclone(place: Place) -> Sequence[Argument]:
    return (
        *("rclone", "mount", ":http:", place.path),
        *("--http-url", place.addresses.files_url),
        *("--config", "/dev/null"),
        *("--cache-dir", place.cache),
        *("--vfs-cache-mode", "full", "--dir-cache-time", "24h", "--read-only"),
    )


def _rclone_without_sizes(place: Place) -> Sequence[Argument]:
    return (*_rclone(place), "--http-no-head")


def _httpdirfs(place: Place) -> Sequence[Argument]:
    return (
        *("httpdirfs", "-f", "--cache", "--cache-location", place.cache),
        *(f"{place.addresses.files_url}/", place.path),
    )


def _fsspec(place: Place) -> Sequence[Argument]:
    module = "tests.bench.invoice_files"
    return (sys.executable, "-m", module, place.addresses.api_url, place.path)


def _bindfs(place: Place) -> Sequence[Argument]:
    return ("bindfs", "-f", "--no-allow-other", "-r", place.local_files, place.path)


INVOICEFS = Filesystem("invoicefs", _invoicefs, returns=True)
RCLONE = Filesystem("rclone mount", _rclone, "rclone")
RCLONE_WITHOUT_SIZES = Filesystem("rclone --http-no-head", _rclone_without_sizes, "rclone")
HTTPDIRFS = Filesystem("httpdirfs", _httpdirfs, "httpdirfs")
FSSPEC = Filesystem("fsspec.fuse", _fsspec, module="fsspec")
BINDFS = Filesystem("bindfs", _bindfs, "bindfs")
LOCAL = Filesystem("local disk", None)

Contestant = Filesystem | Pipeline
CONTESTANTS: tuple[Contestant, ...] = (
    *(INVOICEFS, SEQUENTIAL, XARGS, CLIENT),
    *(RCLONE, RCLONE_WITHOUT_SIZES, HTTPDIRFS, FSSPEC, BINDFS, LOCAL),
)
"""In the order of the columns; all others are compared with the first."""


def missing_part(contestant: Contestant) -> str | None:
    """Return a sentence about what a contestant needs and is not installed, or None."""
    if contestant.program and shutil.which(contestant.program) is None:
        return f"{contestant.program} is not installed."
    if contestant.module and find_spec(contestant.module) is None:
        return f"The Python package {contestant.module} is not installed."
    return None


def invoicefs_at(revision: str, checkout: Path) -> Filesystem:
    """Return the contestant that is another revision of invoicefs."""
    return replace(INVOICEFS, name=f"{INVOICEFS.name} at {revision}", checkout=checkout)
