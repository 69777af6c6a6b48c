"""Machines that mount one tenant through one cache, each with a cache and a home of its own."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType

from invoicefs.sandbox import Sandbox
from tests.mount.support.files import in_folder
from tests.mount.support.mounts import Mount, Mounts
from tests.mount.support.programs import Ended, started
from tests.mount.support.tenants import NAMESPACE
from tests.serving.nginx_cache import HttpCache

_COPY_LIMIT_S = 60.0  # ten mounts on a machine with two cores


class Fleet:
    """Mounts of one tenant through one cache."""

    def __init__(self, sandbox: Sandbox, cache: HttpCache, folder: Path) -> None:
        self._sandbox = sandbox
        self._folder = folder
        self._variables = {
            "INVOICEFS_URL": cache.url,
            "INVOICEFS_CA_BUNDLE": str(cache.authority),
        }
        self._machines: list[Mounts] = []

    def machine(self, variables: Mapping[str, str] = MappingProxyType({})) -> Mounts:
        """Add a machine, with more environment variables."""
        folder = self._folder / f"machine-{len(self._machines) + 1}"
        machine = Mounts(self._sandbox, folder, variables={**self._variables, **variables})
        self._machines.append(machine)
        return machine

    def mounted(self, count: int, *options: str) -> list[tuple[Mounts, Mount]]:
        """Add machines, and mount the tenant on all of them at the same time."""
        machines = [self.machine() for _ in range(count)]
        with ThreadPoolExecutor(count) as threads:
            mounts = threads.map(lambda machine: machine.mount(*options), machines)
            return list(zip(machines, mounts, strict=True))

    def close(self) -> None:
        """Unmount everything, see `Mounts.close`."""
        with ExitStack() as stack:
            for machine in self._machines:
                stack.callback(machine.close)


def ended_together(argvs: Sequence[Sequence[str | Path]]) -> list[Ended]:
    """Run programs at the same time, and wait for all of them."""
    with ExitStack() as stack:
        programs = [stack.enter_context(started(*argv)) for argv in argvs]
        return [program.end(_COPY_LIMIT_S) for program in programs]


def copies_of(mounts: Sequence[Mount], folder: Path) -> list[dict[str, bytes]]:
    """Copy everything from all mounts at the same time; returns the files of each copy."""
    targets = [folder / f"copy-{number}" for number in range(len(mounts))]
    copied = ended_together(
        [
            ("cp", "-r", mount / NAMESPACE, target)
            for mount, target in zip(mounts, targets, strict=True)
        ]
    )
    for ended in copied:
        ended.good()
    return [in_folder(target) for target in targets]
