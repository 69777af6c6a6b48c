"""Mounts with different tokens share a cache, and show only what their token may see."""

from pathlib import Path

import pytest

from invoicefs.sandbox import Endpoint, Fault, Sandbox, faults
from tests.mount.support.files import in_folder
from tests.mount.support.mounts import Mount, Mounts
from tests.mount.support.programs import run
from tests.mount.support.tenants import NAMESPACE, contents, invoice, tenant

TENANT = tenant(*(invoice(number) for number in range(6)))
pytestmark = pytest.mark.tenant(TENANT)
CONTENTS = contents(TENANT)
NAMES = list(CONTENTS)
OTHER = {"INVOICEFS_TOKEN": "other-token"}


@pytest.fixture
def cached(sandbox: Sandbox, mounts: Mounts, tmp_path: Path) -> Mount:
    """A mount that has cached everything; the API now accepts only another token."""
    mount = mounts.mount("--list-ttl", "1h")
    run("cp", "-r", mount / NAMESPACE, tmp_path / "first").good()
    sandbox.forget_calls()
    sandbox.token = OTHER["INVOICEFS_TOKEN"]
    return mount


def mounted_with_other_token(mounts: Mounts, *options: str) -> Path:
    path = mounts.new_path()
    mounts.command("mount", "--max-wait", "0s", *options, path, env=OTHER).good()
    return path / NAMESPACE


@pytest.mark.promise(
    "A token that the API denies access does not get what another token has downloaded."
)
@pytest.mark.usefixtures("cached")
def test_a_refused_token_is_not_shown_what_another_one_downloaded(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    for endpoint in (Endpoint.INVOICES, Endpoint.PDF):
        sandbox.inject(Fault(faults.status(403), endpoint))
    folder = mounted_with_other_token(mounts)

    assert "Permission denied" in run("ls", folder).err
    for name in NAMES[:2]:
        assert "Permission denied" in run("cat", folder / name).err
    sandbox.go_away()
    for path in (folder, folder / NAMES[0], folder / NAMES[5]):
        ended = run("cat" if path != folder else "ls", path)
        assert ended.code
        assert ended.out == b""


@pytest.mark.promise(
    "A renewed token costs one list request and one PDF request per namespace, and no second "
    "download of everything."
)
def test_a_renewed_token_costs_one_listing_and_one_pdf_per_namespace(
    sandbox: Sandbox, mounts: Mounts, cached: Mount, tmp_path: Path
) -> None:
    folder = mounted_with_other_token(mounts)
    for number in range(2):
        run("cp", "-r", folder, tmp_path / str(number)).good()
        assert in_folder(tmp_path / str(number)) == CONTENTS

    assert sandbox.count(Endpoint.INVOICES) == sandbox.count(Endpoint.PDF) == 1
    assert run("cat", cached / NAMESPACE / NAMES[3]).good().out == CONTENTS[NAMES[3]]


@pytest.mark.promise(
    "A token that the API denies access does not get what another token has downloaded."
)
@pytest.mark.usefixtures("cached")
def test_without_the_api_a_token_gets_only_what_it_was_allowed_before(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    folder = mounted_with_other_token(mounts)
    run("ls", folder).good()
    sandbox.go_away()

    assert run("ls", folder).good().lines == NAMES
    assert "No route to host" in run("cat", folder / NAMES[0]).err
