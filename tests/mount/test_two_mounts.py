"""Several mounts of one tenant, made at one moment, on one store."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from invoicefs.sandbox import Endpoint, Sandbox
from tests.mount.support.files import in_folder
from tests.mount.support.mounts import Mount, Mounts
from tests.mount.support.programs import run, started
from tests.mount.support.tenants import NAMESPACE, contents, invoice, tenant

TENANT = tenant(*(invoice(number, size) for number, size in enumerate([10_000, 100_000] * 15)))
CONTENTS = contents(TENANT)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(TENANT, latency_s=0.01) as sandbox:
        yield sandbox


def mounted_at_once(mounts: Mounts, count: int) -> list[Mount]:
    """Start the commands together; each succeeds and prints nothing."""
    paths = [mounts.new_path() for _ in range(count)]
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(lambda path: mounts.mount(path=path), paths))


both_numbers = pytest.mark.parametrize("count", [2, 5])


@pytest.mark.promise(
    "Several mounts may share a cache: what one has downloaded, the others read from the disk."
)
@both_numbers
def test_what_one_mount_has_the_others_do_not_fetch(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path, count: int
) -> None:
    made = mounted_at_once(mounts, count)
    for mount in made:
        copy = tmp_path / f"copy-of-{mount.path.name}"
        run("cp", "-r", mount / NAMESPACE, copy).good()
        assert in_folder(copy) == CONTENTS
    assert sandbox.count(Endpoint.PDF) == len(CONTENTS)
    assert [mount.warnings for mount in made] == [[]] * count


@both_numbers
def test_mounts_that_fetch_side_by_side_get_in_nobodys_way(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path, count: int
) -> None:
    made = mounted_at_once(mounts, count)
    for number in range(2):
        copies = [tmp_path / f"copy-{number}-of-{mount.path.name}" for mount in made]
        copy_at_once(made, copies)
        for copy in copies:
            assert in_folder(copy) == CONTENTS
        if number == 0:
            sandbox.forget_calls()
    assert sandbox.count(Endpoint.PDF) == 0
    assert [mount.warnings for mount in made] == [[]] * count


def copy_at_once(made: Sequence[Mount], copies: Sequence[Path]) -> None:
    with ExitStack() as stack:
        programs = [
            stack.enter_context(started("cp", "-r", mount / NAMESPACE, copy))
            for mount, copy in zip(made, copies, strict=True)
        ]
        for program in programs:
            program.end().good()


def test_mounts_started_at_once_on_a_damaged_store_begin_one_new_one(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    mounts.umount(mounts.mount())
    for database in mounts.cache.rglob("cache.db"):
        database.write_bytes(b"garbage" * 5000)
    made = mounted_at_once(mounts, 3)
    for mount in made:
        copy = tmp_path / f"copy-of-{mount.path.name}"
        run("cp", "-r", mount / NAMESPACE, copy).good()
        assert in_folder(copy) == CONTENTS
    assert sandbox.count(Endpoint.PDF) == len(CONTENTS)
