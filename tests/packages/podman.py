"""Podman with a storage and a mount namespace of its own, all of which is thrown away."""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mount.support.mounts import CHECKOUT
from tests.mount.support.programs import Argument, Ended, eventually, run, started

BASE = "docker.io/library/debian:13-slim"
IMAGE = "invoicefs"
BUILD_LIMIT_S = 300.0  # it installs packages

# Containers get the cgroup and the network of the test: changing them needs more than some machines
# that run tests allow, for example where cgroups of version 1 and 2 are both in use.
_CONTAINERS_CONF = """
[containers]
cgroups = "disabled"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
netns = "host"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
tmp_dir = "{folder}/tmp"
"""
_STORAGE_CONF = """
[storage]
graphroot = "{folder}/graph"
runroot = "{folder}/run"
"""
# The copies of mounts outside, which would keep their processes alive, are unmounted first. What is
# mounted below the folder $1 in a container becomes visible in this namespace. bash waits for
# processes whose parent has ended, as process 1 must.
_NAMESPACE = """
umount --all --lazy --no-canonicalize --types fuse.invoicefs
mount --types cgroup2 cgroup2 /sys/fs/cgroup
mount --bind "$1" "$1"
mount --make-shared "$1"
echo ready
read -r
"""
_MAKE_BASE = """
source scripts/prepare.sh
source scripts/machines.sh
tar --create --file {archive} --directory "$machines/trixie" --one-file-system \
    --exclude './var/cache/apt/*' --exclude './var/lib/apt/lists/*' .
"""


class Podman:
    """Runs ``podman``, and programs outside the containers, in a namespace."""

    def __init__(self, folder: Path, leader: int) -> None:
        self.shared = folder / "shared"
        self._folder = folder
        self._enter = ("nsenter", f"--target={leader}", "--mount", "--pid", "--")

    def outside(self, *argv: Argument) -> Ended:
        """Run a program outside the containers, which can access the folder `shared`."""
        return run(*self._enter, *argv)

    def __call__(self, *arguments: Argument, timeout_s: float = 60.0) -> Ended:
        """Run ``podman`` with these arguments."""
        variables = {
            "CONTAINERS_CONF": str(self._folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self._folder / "storage.conf"),
            "DISABLE_HC_SYSTEMD": "true",  # `podman healthcheck run` works without systemd, too
        }
        argv = (*self._enter, "podman", *arguments)
        return run(*argv, timeout_s=timeout_s, env=variables)

    def build(self) -> None:
        """Build the image as its Containerfile says, on the root folder that machines.sh creates.

        Skips the tests if this machine cannot run containers.
        """
        archive = self._folder / "base.tar"
        make = _MAKE_BASE.format(archive=shlex.quote(str(archive)))
        script = ("bash", "-euc", make)
        run(*script, timeout_s=BUILD_LIMIT_S, env=os.environ, cwd=CHECKOUT).good()
        self("import", archive, BASE).good()
        archive.unlink()
        tried = self("run", "--rm", BASE, "true")
        if tried.code != 0:
            pytest.skip(f"podman cannot run containers here: {tried.err}")
        options = ("--isolation=chroot", "--layers=false", "--format=docker", f"--tag={IMAGE}")
        file = f"--file={CHECKOUT}/scripts/Containerfile"
        self("build", *options, file, CHECKOUT, timeout_s=BUILD_LIMIT_S).good()


@contextmanager
def in_namespace(folder: Path) -> Iterator[Podman]:
    """Podman in a namespace with which all its containers and mounts end."""
    (folder / "shared").mkdir()
    (folder / "containers.conf").write_text(_CONTAINERS_CONF.format(folder=folder))
    (folder / "storage.conf").write_text(_STORAGE_CONF.format(folder=folder))
    unshare = ("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child")
    script = ("bash", "-euc", _NAMESPACE, "bash", folder / "shared")
    with started(*unshare, "--mount-proc", *script) as running:
        if running.line() != "ready":
            pytest.skip(f"no namespace for podman can be made here: {running.end().err}")
        pid = running.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        (leader,) = eventually(lambda: children.read_text().split())
        yield Podman(folder, int(leader))
