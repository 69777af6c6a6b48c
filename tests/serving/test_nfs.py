"""A mount that is exported over NFS, with the example `ganesha.conf`."""

import os
from pathlib import Path

import pytest

from invoicefs.sandbox import Endpoint, Sandbox
from tests.mount.support.programs import eventually
from tests.mount.support.tenants import NAMESPACE, file_name, tenant
from tests.serving.folder import CONTENTS, DRAFT, FINAL, LONG, SHORT, TENANT, ServedFolder
from tests.serving.ganesha import ganesha
from tests.serving.nfs_session import nfs_session

_DROP_CACHES = Path("/proc/sys/vm/drop_caches")
_INODES = "2"  # see proc(5); the page cache stays


@pytest.mark.promise(
    "NFS-Ganesha exports a mount with `--fetch on-stat`: the first read of an invoice is right."
)
@pytest.mark.tenant(TENANT)
def test_nfs_clients_read_never_opened_invoices_exactly(
    served: ServedFolder, port: int, sandbox: Sandbox
) -> None:
    with ganesha(served, served.mount(), port) as client:
        first = min(CONTENTS)
        assert client.read(f"{NAMESPACE}/{first}") == CONTENTS[first]
        sizes = client.sizes(NAMESPACE)
        found = {name: client.read(f"{NAMESPACE}/{name}") for name in CONTENTS}
    assert sizes == {name: len(pdf) for name, pdf in CONTENTS.items()}
    assert found == CONTENTS
    assert sandbox.count(Endpoint.PDF) == len(CONTENTS)


@pytest.mark.promise(
    "NFS clients continue when the server has dropped inodes because memory was short."
)
@pytest.mark.skipif(not os.access(_DROP_CACHES, os.W_OK), reason="inodes cannot be dropped here")
@pytest.mark.tenant(TENANT)
def test_nfs_handles_survive_that_the_kernel_forgets_inodes(
    served: ServedFolder, port: int
) -> None:
    with ganesha(served, served.mount(), port), nfs_session(port, NAMESPACE) as session:
        for name, content in CONTENTS.items():
            _DROP_CACHES.write_text(_INODES)
            assert session.read(name) == content


@pytest.mark.promise("After a draft has become final, NFS clients get its new size and content.")
@pytest.mark.tenant(tenant(DRAFT))
def test_nfs_clients_see_a_draft_become_final(
    served: ServedFolder, port: int, sandbox: Sandbox
) -> None:
    path = f"{NAMESPACE}/{file_name(DRAFT)}"
    with ganesha(served, served.mount("--list-ttl=0s"), port) as client:
        assert client.read(path) == LONG
        sandbox.tenant = tenant(FINAL)

        def is_new() -> bool:
            found = client.read(path)
            assert found in (LONG, SHORT)
            return found == SHORT

        eventually(is_new)  # the mount notices a moment later that the file was closed
        assert client.sizes(NAMESPACE) == {file_name(DRAFT): len(SHORT)}


@pytest.mark.promise(
    "The example for NFS shows invoices only to the machines that it names, and lets nobody change "
    "anything."
)
@pytest.mark.tenant(TENANT)
def test_nfs_shows_other_machines_nothing_and_refuses_changes(
    served: ServedFolder, port: int
) -> None:
    mount = served.mount()
    with ganesha(served, mount, port) as client:
        assert client.run("nfs-cp", f"{NAMESPACE}/new.pdf", "/etc/hostname").code != 0
        assert "new.pdf" not in client.sizes(NAMESPACE)
    with ganesha(served, mount, port, clients="192.0.2.1") as client:
        refused = client.run("nfs-ls", NAMESPACE)
        assert refused.code != 0
        assert refused.out == b""
