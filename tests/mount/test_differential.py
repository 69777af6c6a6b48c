"""System calls have the same results as on squashfs, a read-only filesystem of the kernel.

A tenant is mounted, and the same tree as a squashfs image; then a program makes thousands of random
calls on each. Every remaining difference is listed here with its reason.
"""

import functools
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from random import Random

import pytest

from invoicefs.sandbox import SampleInvoice, SampleNamespace, SampleTenant, Sandbox
from tests.mount.support.drawing import TREE
from tests.mount.support.mounts import CHECKOUT, Mounts
from tests.mount.support.programs import eventually, missing, run
from tests.mount.support.random_calls import call_names
from tests.mount.support.tenants import file_name, invoice

SEEDS = range(6)
OTHER_SEEDS = range(6, 8)
CALLS = 4000

# At the edges of blocks, pages and the kernel's reads of 128 KiB, and well beyond.
SIZES = (100, 511, 512, 4095, 4096, 4097, 131_071, 131_072, 131_073, 1_500_001)

_NOBODY = 65_534
# Capabilities needed to run a program below another root, and to read that program.
_EXTRA_CAPABILITIES = "+sys_chroot,+dac_read_search"
_AS_NOBODY = (
    "setpriv",
    f"--reuid={_NOBODY}",
    f"--regid={_NOBODY}",
    "--clear-groups",
    f"--inh-caps={_EXTRA_CAPABILITIES}",
    f"--ambient-caps={_EXTRA_CAPABILITIES}",
    "--",
)


@dataclass(frozen=True)
class Difference:
    """A call whose results differ."""

    call: str
    squashfs: str
    invoicefs: str


@dataclass(frozen=True)
class Expected:
    """Expected differences, as regular expressions."""

    call: str
    squashfs: str
    invoicefs: str
    reason: str

    def covers(self, found: Difference) -> bool:
        """Return whether a difference is of this kind."""
        return all(
            re.fullmatch(getattr(self, part), getattr(found, part))
            for part in ("call", "squashfs", "invoicefs")
        )


EXPECTED = (
    Expected(
        r"f?statvfs\(.*",
        r"\('ST_RDONLY', 'ST_NOSUID', 'ST_NODEV', 256\)",
        r"\('ST_RDONLY', 'ST_NOSUID', 'ST_NODEV', 255\)",
        "squashfs allows one byte more in a name than other filesystems, and than NAME_MAX.",
    ),
    Expected(
        r"(fsync|fdatasync)\(.*",
        "EINVAL",
        "None",
        "squashfs has no fsync; on invoicefs it succeeds, as there is nothing to write back.",
    ),
    Expected(
        r"getxattr\(.*",
        "ENODATA",
        "ENOTSUP",
        "There are no extended attributes unless the option for them is given.",
    ),
    Expected(
        r"listxattr\(.*",
        r"\(\)",
        "ENOTSUP",
        "There are no extended attributes unless the option for them is given.",
    ),
    Expected(
        r"read_direct\(.*",
        "EINVAL",
        "True",
        "The FUSE module of the kernel supports O_DIRECT, squashfs does not.",
    ),
    Expected(
        r"epoll\(.*",
        "EPERM",
        "None",
        "FUSE files may support poll, so the kernel lets epoll watch them.",
    ),
    Expected(
        r"ioctl\(.*'FIBMAP'\)",
        "EINVAL",
        "64 bytes f5a5fd42d16a2030",
        "Without a block device, the kernel's FUSE module returns block 0, which means none.",
    ),
    Expected(
        r".*y\{252\}\.pdf.*",
        "ENOENT|EROFS",
        "ENAMETOOLONG",
        "squashfs allows one byte more in a name than other filesystems, and than NAME_MAX.",
    ),
)


@dataclass(frozen=True)
class Twins:
    """The same tree twice, and the prefix that runs a program as their owner."""

    squashfs: Path
    invoicefs: Path
    prefix: Sequence[str] = ()


def _invoices(year: int, names: Sequence[str]) -> Iterator[SampleInvoice]:
    """An invoice for each file, one a month, because squashfs has no fractions of a second."""
    for month, (size, name) in enumerate(zip(SIZES, names, strict=False)):
        bare = invoice(12 * year + month, name=name.removesuffix(".pdf"))
        body = Random(name).randbytes(size - 15)  # noqa: S311 # the same on every run
        pdf = b"%PDF-1.4\n" + body + b"%%EOF\n"
        yield replace(bare, pdf=pdf, period_end=bare.period_end.replace(".999999999", ""))


TENANT = SampleTenant(
    "acme",
    tuple(
        SampleNamespace(folder, tuple(_invoices(year, names)))
        for year, (folder, names) in enumerate(TREE.items())
    ),
)


def _write_tree(root: Path) -> None:
    """Write the tree that a mount of the tenant shows, with the same modes and times."""
    root.mkdir()
    for namespace in TENANT.namespaces:
        folder = root / namespace.name
        folder.mkdir()
        folder_time_s = 0.0
        for item in namespace.invoices:
            path, time_s = folder / file_name(item), _seconds(item.period_end)
            path.write_bytes(item.content() or b"")
            path.chmod(0o444)
            os.utime(path, (time_s, time_s))
            folder_time_s = max(folder_time_s, time_s)
        _set_mode_and_time(folder, folder_time_s)
    _set_mode_and_time(root, 0)


def _set_mode_and_time(folder: Path, time_s: float) -> None:
    folder.chmod(0o755)
    os.utime(folder, (time_s, time_s))


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


@contextmanager
def _squashfs(folder: Path, owner: int) -> Iterator[Path]:
    """The tree as a mounted image of squashfs."""
    if os.geteuid() != 0:
        missing("only root can mount squashfs")
    source, image, path = folder / "source", folder / "image", folder / "squashfs"
    _write_tree(source)
    as_owner = ("-force-uid", str(owner), "-force-gid", str(owner))
    run("mksquashfs", source, image, "-quiet", "-no-progress", *as_owner).good()
    path.mkdir()
    options = "loop,ro,nosuid,nodev"
    mounted = run("mount", "--types", "squashfs", "--options", options, image, path)
    if mounted.code != 0:
        missing(f"squashfs cannot be mounted: {mounted.err}")
    try:
        yield path
    finally:
        run("umount", "--lazy", path).good()
        eventually(lambda: run("losetup", "--associated", image).good().out == b"")


@contextmanager
def _twins(mounts: Mounts, owner: int, prefix: Sequence[str] = ()) -> Iterator[Twins]:
    with _squashfs(mounts.folder, owner) as squashfs:
        mount = mounts.mount("--list-ttl", "1h")
        # From here on all sizes are exact, and the times of all folders are known.
        mounts.run("ls", *(mount / folder for folder in TREE)).good()
        files = (mount / folder / name for folder, names in TREE.items() for name in names)
        mounts.run("cat", *files).good()
        yield Twins(squashfs, mount.path, prefix)


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with (
        Sandbox(TENANT) as sandbox,
        closing(Mounts(sandbox, tmp_path_factory.mktemp("twins"))) as mounts,
        _twins(mounts, os.geteuid()) as twins,
    ):
        yield twins


@pytest.fixture
def twins_of_nobody(sandbox: Sandbox, unprivileged_mounts: Mounts) -> Iterator[Twins]:
    sandbox.tenant = TENANT
    with _twins(unprivileged_mounts, _NOBODY, _AS_NOBODY) as twins:
        yield twins


@functools.cache
def outcomes(folder: Path, seed: int, prefix: Sequence[str]) -> Sequence[tuple[str, str]]:
    """The calls of a seed, and the result of each of them in a folder."""
    program = (sys.executable, "-m", "tests.mount.support.random_calls")
    environment = {"PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}
    arguments = (folder, str(seed), str(CALLS))
    lines = run(*prefix, *program, *arguments, env=environment, cwd=Path("/")).good().lines
    assert len(lines) == CALLS
    parted = (line.partition(" = ") for line in lines)
    return [(call, result) for call, _, result in parted]


def differences(twins: Twins, seed: int) -> Iterator[Difference]:
    there, here = (
        outcomes(folder, seed, twins.prefix) for folder in (twins.squashfs, twins.invoicefs)
    )
    for (call, expected), (same_call, result) in zip(there, here, strict=True):
        assert call == same_call
        if expected != result:
            yield Difference(call, expected, result)


def assert_only_expected_differences(twins: Twins, seed: int) -> None:
    unexpected = [
        str(found)
        for found in differences(twins, seed)
        if not any(expected.covers(found) for expected in EXPECTED)
    ]
    assert not unexpected, "\n".join((f"{len(unexpected)} differences:", *unexpected[:20]))


@pytest.mark.parametrize("seed", SEEDS)
def test_system_calls_have_the_same_results_as_on_squashfs(twins: Twins, seed: int) -> None:
    assert_only_expected_differences(twins, seed)


@pytest.mark.parametrize("seed", OTHER_SEEDS)
def test_system_calls_of_an_ordinary_user_have_the_same_results(
    twins_of_nobody: Twins, seed: int
) -> None:
    assert_only_expected_differences(twins_of_nobody, seed)


def test_every_expected_difference_occurs(twins: Twins) -> None:
    found = [difference for seed in SEEDS for difference in differences(twins, seed)]
    gone = [item for item in EXPECTED if not any(map(item.covers, found))]
    assert gone == []


def test_every_kind_of_call_reaches_the_filesystem(twins: Twins) -> None:
    made = [outcome for seed in SEEDS for outcome in outcomes(twins.invoicefs, seed, twins.prefix)]
    idle = {"EmptySlot", "ValueError", "OverflowError"}
    names = [call.partition("(")[0] for call, result in made if result not in idle]
    assert set(names) == set(call_names())
    assert len(names) > 0.8 * len(made)
