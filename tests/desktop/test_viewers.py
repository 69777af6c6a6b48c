"""PDF viewers with windows, and copies as file managers make them."""

import pytest

from invoicefs.sandbox import Endpoint, Sandbox
from tests.desktop.screen import Screen
from tests.mount.files import in_folder
from tests.mount.mounts import Mount
from tests.mount.tenants import contents

NAME = "invoice-acme-2024-02.pdf"


@pytest.mark.promise(
    "A PDF viewer opens a new invoice for one call, also by way of the file manager."
)
@pytest.mark.parametrize(
    ("viewer", "title"),
    [("evince", f"{NAME} \u2014 Invoice invoice-acme-2024-02"), ("mupdf", f"{NAME} - 1/1")],
    ids=["evince", "mupdf"],
)
def test_a_viewer_shows_a_new_invoice_for_one_call(
    screen: Screen, mount: Mount, sandbox: Sandbox, viewer: str, title: str
) -> None:
    screen.start(viewer, mount / "system" / NAME)
    screen.wait_for_window(title)
    assert sandbox.count(Endpoint.PDF) == sandbox.count(Endpoint.PDF, "system", NAME[:-4]) == 1


def test_a_copy_by_the_desktops_own_means_has_the_servers_bytes(
    screen: Screen, mount: Mount, sandbox: Sandbox
) -> None:
    target = screen.home / "archive"
    target.mkdir()
    paid = contents(sandbox.tenant)
    screen.run("gio", "copy", *(mount / "system" / name for name in paid), target)
    assert in_folder(target) == paid
    assert {sandbox.count(Endpoint.PDF, "system", name[:-4]) for name in paid} == {1}
