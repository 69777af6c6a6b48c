"""Several mounts of one tenant, started together, with one cache."""

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


def mounted_concurrently(mounts: Mounts, count: int) -> list[Mount]:
    """Start the commands together; all of them succeed and print nothing."""
    paths = [mounts.new_path() for _ in range(count)]
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(lambda path: mounts.mount(path=path), paths))


with_five_mounts = pytest.mark.parametrize("count", [5])


@pytest.mark.promise(
    "Several mounts may share a cache: what one has downloaded, the others read from the disk."
)
@with_five_mounts
def test_mounts_with_a_shared_cache_download_each_invoice_once(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path, count: int
) -> None:
    made = mounted_concurrently(mounts, count)
    for mount in made:
        copy = tmp_path / f"copy-of-{mount.path.name}"
        run("cp", "-r", mount / NAMESPACE, copy).good()
        assert in_folder(copy) == CONTENTS
    assert sandbox.count(Endpoint.PDF) == len(CONTENTS)
    assert [mount.warnings for mount in made] == [[]] * count


@with_five_mounts
def test_mounts_that_download_concurrently_do_not_interfere(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path, count: int
) -> None:
    made = mounted_concurrently(mounts, count)
    for number in range(2):
        copies = [tmp_path / f"copy-{number}-of-{mount.path.name}" for mount in made]
        copy_concurrently(made, copies)
        for copy in copies:
            assert in_folder(copy) == CONTENTS
        if number == 0:
            sandbox.forget_calls()
    assert sandbox.count(Endpoint.PDF) == 0
    assert [mount.warnings for mount in made] == [[]] * count


def copy_concurrently(made: Sequence[Mount], copies: Sequence[Path]) -> None:
    with ExitStack() as stack:
        programs = [
            stack.enter_context(started("cp", "-r", mount / NAMESPACE, copy))
            for mount, copy in zip(made, copies, strict=True)
        ]
        for program in programs:
            program.end().good()
