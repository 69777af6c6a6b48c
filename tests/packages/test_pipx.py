"""An installation for one user with pipx, from the source distribution, on Debian 12 and 13."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from invoicefs.sandbox import Sandbox
from tests.mount.support.tenants import NAMESPACE, contents, invoice, tenant
from tests.packages.conftest import SUITES, boot
from tests.packages.machine import Machine

TENANT = tenant(invoice(0), invoice(1, 100_000))
CONTENTS = contents(TENANT)
LIMIT_S = 400  # a machine boots, and downloads packages

pytestmark = [pytest.mark.tenant(TENANT), pytest.mark.timeout(LIMIT_S)]


@pytest.fixture(params=SUITES)
def machine(request: pytest.FixtureRequest, distributions: Path) -> Iterator[Machine]:
    """A machine with pipx, and a user."""
    (sdist,) = distributions.glob("*.tar.gz")
    with boot(request.param, sdist) as machine:
        machine.apt_get("install --no-install-recommends libfuse2 fuse3 pipx")
        machine.add_user()
        yield machine


@pytest.mark.promise("pipx installs all of it for one user, and removes it again.")
def test_pipx_installs_and_removes_it(machine: Machine, sandbox: Sandbox) -> None:
    before = files(machine)
    machine.root("cd /home/alice; tar -xf /packages/invoicefs-*.tar.gz; chown -R alice invoicefs-*")
    machine.user("cd invoicefs-*; pipx install '.[all]'", timeout_s=LIMIT_S).good()
    credential = {"INVOICEFS_URL": sandbox.url, "INVOICEFS_TOKEN": sandbox.token}
    variables = {**credential, "PATH": "/home/alice/.local/bin:/usr/bin:/bin"}

    machine.user("mkdir invoices; invoicefs mount invoices", variables).good()
    copied = machine.user(f"cat invoices/{NAMESPACE}/*").good()
    machine.user("invoicefs umount invoices; rmdir invoices", variables).good()
    page = machine.user("invoicefs help mount", variables).good()
    demo = machine.user("invoicefs demo --once", variables).good()
    machine.user("pipx uninstall invoicefs").good()

    assert copied.out == b"".join(CONTENTS[name] for name in sorted(CONTENTS))
    assert "INVOICEFS-MOUNT(1)" in page.text
    assert demo.err == ""
    assert files(machine) - before == set()


def files(machine: Machine) -> set[str]:
    """Return the files that an installation leaves, but not those of pip, pipx and the caches."""
    ours = "find . -iname '*invoicefs*' ! -path './invoicefs-*' ! -path './.cache/*'"
    return set(machine.user(f"{ours} ! -path './.local/*/pipx/logs/*'").good().lines)
