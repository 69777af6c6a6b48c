"""Programs that index files, on a machine with a mount."""

from pathlib import Path

import pytest

from invoicefs.sandbox import Sandbox
from tests.desktop import costs
from tests.mount.support.mounts import NEEDS_ROOT, Mounts
from tests.mount.support.programs import run
from tests.mount.support.tenants import NAMESPACE, invoice, tenant

UPDATEDB_OF_ALL_FILES = ("updatedb", "--require-visibility", "no", "--prunepaths", "")


@pytest.mark.promise("`updatedb` downloads nothing, and skips the mount if it is in `PRUNEFS`.")
@NEEDS_ROOT
def test_updatedb_lists_once_and_downloads_nothing(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path
) -> None:
    sandbox.tenant = tenant(invoice(1))
    mount, database = mounts.mount(), tmp_path / "database"
    updatedb = (*UPDATEDB_OF_ALL_FILES, "--database-root", mount.path.parent, "--output", database)

    run(*updatedb, "--prunefs", "fuse.invoicefs").good()
    costs.check(costs.PRUNED, sandbox)

    run(*updatedb, "--prunefs", "").good()
    costs.check(costs.UPDATEDB, sandbox)
    found = run("locate", "--database", database, "invoice").good().lines
    assert str(mount / NAMESPACE / "invoice-2020-02.pdf") in found
