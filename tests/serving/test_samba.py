"""A mount that Samba serves, with the example `samba.conf`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from invoicefs.sandbox import Endpoint, Sandbox
from tests.mount.support.files import in_folder
from tests.mount.support.programs import eventually, run
from tests.mount.support.tenants import NAMESPACE, file_name, tenant
from tests.serving.folder import CONTENTS, DRAFT, FINAL, LONG, SHORT, TENANT, ServedFolder
from tests.serving.running_server import HOST, MEMBER, PASSWORD, STRANGER
from tests.serving.samba import SHARE, Samba, samba
from tests.serving.smb_client import OpenFile, connected

Copy = Callable[[Samba, Path], None]


@pytest.fixture
def server(served: ServedFolder, port: int) -> Iterator[Samba]:
    with samba(served, served.mount(), port) as server:
        yield server


def by_smbclient(server: Samba, target: Path) -> None:
    server.client(f"cd {NAMESPACE}; lcd {target}; prompt off; mget *").good()


def by_rclone(server: Samba, target: Path) -> None:
    password = run("rclone", "obscure", PASSWORD).good().text.strip()
    login = (f"--smb-port={server.port}", f"--smb-user={MEMBER.name}", f"--smb-pass={password}")
    source = f":smb:{SHARE}/{NAMESPACE}"
    run("rclone", "--config=", "copy", f"--smb-host={HOST}", *login, source, target).good()


def by_smbprotocol(server: Samba, target: Path) -> None:
    with connected(HOST, server.port, SHARE, MEMBER.name, PASSWORD) as share:
        for name in CONTENTS:
            file = OpenFile(share, rf"{NAMESPACE}\{name}")
            (target / name).write_bytes(file.read())
            file.close()


@pytest.mark.promise(
    "Samba serves a mount with `--fetch on-stat`: clients see the true size of an invoice from "
    "the first look, and copy exactly the server's bytes."
)
@pytest.mark.tenant(TENANT)
@pytest.mark.parametrize("copy", [by_smbclient, by_rclone, by_smbprotocol])
def test_an_smb_client_copies_a_folder_that_was_never_opened_exactly(
    server: Samba, sandbox: Sandbox, tmp_path: Path, copy: Copy
) -> None:
    copy(server, tmp_path)
    assert in_folder(tmp_path) == CONTENTS
    assert sandbox.count(Endpoint.PDF) == len(CONTENTS)


@pytest.mark.promise(
    "Samba serves a mount with `--fetch on-stat`: clients see the true size of an invoice from "
    "the first look, and copy exactly the server's bytes."
)
@pytest.mark.tenant(TENANT)
def test_smb_clients_are_told_the_true_size_when_they_first_open_a_file(server: Samba) -> None:
    with connected(HOST, server.port, SHARE, MEMBER.name, PASSWORD) as share:
        found = {name: OpenFile(share, rf"{NAMESPACE}\{name}").size_bytes for name in CONTENTS}
    assert found == {name: len(pdf) for name, pdf in CONTENTS.items()}


@pytest.mark.promise(
    "The example for Samba shows invoices only to members of a group, with their password, and "
    "lets nobody change anything."
)
@pytest.mark.tenant(TENANT)
def test_samba_shows_strangers_nothing(server: Samba) -> None:
    wrong_password, guest, no_member = (MEMBER.name, "wrong"), ("", ""), (STRANGER.name, PASSWORD)
    for login in (wrong_password, guest, no_member):
        refused = server.client("ls", *login)
        assert (
            "NT_STATUS_LOGON_FAILURE" in refused.text or "NT_STATUS_ACCESS_DENIED" in refused.text
        )
        assert NAMESPACE not in refused.text


@pytest.mark.promise(
    "The example for Samba shows invoices only to members of a group, with their password, and "
    "lets nobody change anything."
)
@pytest.mark.tenant(TENANT)
def test_samba_refuses_changes(server: Samba) -> None:
    name = min(CONTENTS)
    for change in (
        "put /etc/hostname new.pdf",
        f"rm {name}",
        f"rename {name} other.pdf",
        "mkdir new",
    ):
        refused = server.client(f"cd {NAMESPACE}; {change}")
        words = refused.text + refused.err
        assert "NT_STATUS_MEDIA_WRITE_PROTECTED" in words or "NT_STATUS_ACCESS_DENIED" in words


@pytest.mark.tenant(tenant(DRAFT))
@pytest.mark.promise(
    "After a draft has become final, SMB clients get the new size and content when they open it "
    "next; while one of them has it open, all get the old ones."
)
def test_two_smb_clients_see_a_draft_become_final(
    served: ServedFolder, sandbox: Sandbox, port: int
) -> None:
    mount = served.mount("--list-ttl=0s")
    path = rf"{NAMESPACE}\{file_name(DRAFT)}"
    login = (SHARE, MEMBER.name, PASSWORD)
    with (
        samba(served, mount, port),
        connected(HOST, port, *login) as one,
        connected(HOST, port, *login) as two,
    ):
        first = OpenFile(one, path)
        assert first.size_bytes == len(LONG)
        assert not first.may_be_cached
        sandbox.tenant = tenant(FINAL)
        second = OpenFile(two, path)
        assert second.size_bytes == len(LONG)
        assert first.read() == second.read() == LONG
        first.close()
        second.close()

        def is_new() -> bool:
            file = OpenFile(one, path)
            size_bytes, content = file.size_bytes, file.read()
            file.close()
            assert (size_bytes, content) in [(len(LONG), LONG), (len(SHORT), SHORT)]
            return content == SHORT

        eventually(is_new)
        assert OpenFile(two, path).size_bytes == len(SHORT)


@pytest.mark.promise(
    "While a folder that is made with mode 0 is not mounted, Samba refuses it, and never shows it "
    "empty."
)
@pytest.mark.tenant(TENANT)
def test_samba_refuses_a_folder_that_is_not_mounted(served: ServedFolder, port: int) -> None:
    """A sync from an empty share would delete the copies of all invoices."""
    mount = served.mount()
    with samba(served, mount, port) as server:
        server.client("ls").good()
        served.mounts.run("umount", mount.path).good()
        mount.path.chmod(0)

        refused = server.client("ls")

        assert (refused.code, "NT_STATUS_ACCESS_DENIED" in refused.text) == (1, True)
