"""A folder of invoices in Thunar, with and without its thumbnailer."""

from collections import Counter

import pytest

from invoicefs.sandbox import Endpoint, Sandbox
from tests.desktop.screen import Screen
from tests.mount.mounts import Mount
from tests.mount.programs import eventually

THUMBNAILER = "org.freedesktop.thumbnails.Thumbnailer1"
SOME = 4  # of those in view
PARALLEL = 8  # the default of --parallel
# tumblerd runs at nice 19, so whatever else is busy on this machine goes first.
PREVIEWS_S = 200


@pytest.mark.timeout(2 * PREVIEWS_S)
@pytest.mark.promise(
    "A file manager that shows previews downloads each invoice in view once, within `--parallel`."
)
def test_a_folder_with_previews_costs_one_call_per_invoice_within_the_limit(
    screen: Screen, mount: Mount, sandbox: Sandbox
) -> None:
    # Thunar asks once, and shows no preview at all where its thumbnailer takes 25 s to start.
    screen.run(
        *("gdbus", "wait", "--session", "--timeout", str(PREVIEWS_S)),
        *("--activate", THUMBNAILER, THUMBNAILER),
        timeout_s=PREVIEWS_S,
    )
    screen.start("thunar", mount / "system")
    screen.wait_for_window("system - Thunar")
    eventually(lambda: len(screen.thumbnails) >= SOME, PREVIEWS_S)
    downloads = Counter(call.name for call in sandbox.calls if call.endpoint is Endpoint.PDF)
    assert len(downloads) >= SOME
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

    def open_the_first() -> bool:  # keys do nothing while the folder is being read
        screen.press(window, "Home", "Return")
        return screen.has_window("invoice-acme-2023-11.pdf", "Invoice invoice-acme-2023-11")

    eventually(open_the_first)
    assert sandbox.count(Endpoint.PDF, "system", "invoice-acme-2023-11") == 1
