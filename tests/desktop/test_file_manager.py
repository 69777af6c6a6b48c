"""A folder of invoices in Thunar, whose thumbnailer downloads what it shows."""

from collections import Counter

import pytest

from invoicefs.sandbox import Endpoint, Sandbox
from tests.desktop.screen import Screen
from tests.mount.mounts import Mount
from tests.mount.programs import eventually

IN_VIEW = 9  # of 36: what a small window has room for at once
PARALLEL = 8  # the default of --parallel


@pytest.mark.promise(
    "A file manager that shows previews downloads each invoice in view once, within `--parallel`."
)
def test_a_folder_with_previews_costs_one_call_per_invoice_within_the_limit(
    screen: Screen, mount: Mount, sandbox: Sandbox
) -> None:
    screen.start("thunar", mount / "system")
    screen.wait_for_window("system - Thunar")
    eventually(lambda: len(screen.thumbnails) >= IN_VIEW)
    downloads = Counter(call.name for call in sandbox.calls if call.endpoint is Endpoint.PDF)
    assert set(downloads.values()) == {1}
    assert sandbox.peak_concurrency <= PARALLEL
    assert sandbox.count(Endpoint.INVOICES) == 1


@pytest.mark.promise(
    "A PDF viewer opens a new invoice for one call, also by way of the file manager."
)
def test_a_file_that_is_opened_in_the_file_manager_shows_in_a_viewer(
    screen: Screen, mount: Mount, sandbox: Sandbox
) -> None:
    screen.run("gio", "mime", "application/pdf", "org.gnome.Evince.desktop")
    screen.start("thunar", mount / "system")
    window = screen.wait_for_window("system - Thunar")
    eventually(lambda: screen.thumbnails)
    screen.press(window, "Home", "Return")
    screen.wait_for_window("invoice-acme-2023-11.pdf", "Invoice invoice-acme-2023-11")
    assert sandbox.count(Endpoint.PDF, "system", "invoice-acme-2023-11") == 1
