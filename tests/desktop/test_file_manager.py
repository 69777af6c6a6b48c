"""A folder of invoices in Thunar."""

import pytest

from invoicefs.sandbox import Endpoint, Sandbox
from tests.desktop.screen import Screen
from tests.mount.mounts import Mount
from tests.mount.programs import eventually


@pytest.mark.promise(
    "A PDF viewer opens a new invoice for one call, also by way of the file manager."
)
def test_a_file_that_is_opened_in_the_file_manager_shows_in_a_viewer(
    screen: Screen, mount: Mount, sandbox: Sandbox
) -> None:
    screen.run("gio", "mime", "application/pdf", "org.gnome.Evince.desktop")
    screen.start("thunar", mount / "system")
    window = screen.wait_for_window("system - Thunar")

    def open_the_first() -> bool:  # keys do nothing while the folder is being read
        screen.press(window, "Home", "Return")
        return screen.has_window("invoice-acme-2023-11.pdf", "Invoice invoice-acme-2023-11")

    eventually(open_the_first)
    assert sandbox.count(Endpoint.PDF, "system", "invoice-acme-2023-11") == 1
