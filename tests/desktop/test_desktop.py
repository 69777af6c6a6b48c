"""The programs of a desktop on a folder of invoices: what they show, do, and cost."""

from pathlib import Path

import pytest

from invoicefs.sandbox import Sandbox
from tests.desktop import costs
from tests.desktop.file_managers import NAUTILUS, PREVIEWS_S, THUNAR, FileManager
from tests.desktop.screen import Screen
from tests.desktop.viewers import ATRIL, EVINCE, MUPDF, Viewer
from tests.desktop.window import PATIENCE_S, Page
from tests.mount.support.files import in_folder
from tests.mount.support.mounts import Mounts
from tests.mount.support.programs import eventually, run
from tests.mount.support.tenants import NAMESPACE, contents, tenant

INVOICE = "invoice-acme-2024-02"
FILE = f"{INVOICE}.pdf"
NOTE = "A note.txt"
PARALLEL = 8  # the default of --parallel

pytestmark = pytest.mark.timeout(2 * PREVIEWS_S + 3 * PATIENCE_S)

IN_EACH_MANAGER = pytest.mark.parametrize(
    "manager", [NAUTILUS, THUNAR], ids=lambda each: each.program
)


@pytest.fixture
def folder(sandbox: Sandbox, mounts: Mounts) -> Path:
    """The invoices of three years, less those that have no PDF yet."""
    invoices = sandbox.tenant.by_name[NAMESPACE].invoices
    sandbox.tenant = tenant(*(each for each in invoices if each.content() is not None))
    return mounts.mount("--list-ttl", "1h", "--active-ttl", "1h", "--read-ahead", "0") / NAMESPACE


@pytest.fixture
def archive(screen: Screen) -> Path:
    """A folder of the user's own, with a file that is no PDF."""
    folder = screen.home / "archive"
    folder.mkdir()
    (folder / NOTE).write_text("Do not file these by hand.")
    return folder


def names_of_invoices(page: Page) -> set[str]:
    return {text.removesuffix(".pdf") for text in page.texts if text.endswith(".pdf")}


@pytest.mark.promise(
    "A file manager shows names, dates and the upper bounds of the sizes for one list and no PDF."
)
@IN_EACH_MANAGER
def test_a_folder_of_new_invoices_shows_names_and_upper_bounds_for_one_list(
    screen: Screen, sandbox: Sandbox, folder: Path, manager: FileManager
) -> None:
    page = manager.show(folder, screen).wait_for(FILE)
    names = names_of_invoices(page)
    assert len(names) >= costs.SOME
    assert names <= {each.name for each in sandbox.tenant.by_name[NAMESPACE].invoices}
    assert page.beside(FILE) == manager.new_invoice
    costs.check(costs.LOOK, sandbox)


@pytest.mark.promise(
    "In a file manager a downloaded invoice looks like an ordinary file, with its size, its date "
    "and its icon."
)
@IN_EACH_MANAGER
def test_a_downloaded_invoice_looks_like_an_ordinary_file(
    screen: Screen, folder: Path, archive: Path, manager: FileManager
) -> None:
    run("cp", "--archive", folder / FILE, archive).good()
    window = manager.show(folder, screen)
    page = window.wait_for(FILE)
    line, icon = page.beside(FILE), window.icon(page.label(FILE))

    ordinary = manager.show(archive, screen)
    page = ordinary.wait_for(FILE)
    assert line[1:] == manager.new_invoice[1:]
    assert line == page.beside(FILE)
    assert icon == ordinary.icon(page.label(FILE))
    assert icon != ordinary.icon(page.label(NOTE))


@pytest.mark.promise(
    "A file manager that shows previews downloads each invoice that it makes one of once, within "
    "`--parallel`."
)
@IN_EACH_MANAGER
def test_previews_cost_one_call_per_invoice_within_the_limit(
    screen: Screen, sandbox: Sandbox, folder: Path, manager: FileManager
) -> None:
    wanted = names_of_invoices(manager.show(folder, screen, previews=True).wait_for(FILE))
    if manager.cost_of_previews is costs.PREVIEWS_OF_ALL:
        wanted = {each.name for each in sandbox.tenant.by_name[NAMESPACE].invoices}
    eventually(lambda: len(screen.thumbnails) >= len(wanted), PREVIEWS_S)
    assert costs.downloads(sandbox).keys() >= wanted
    costs.check(manager.cost_of_previews, sandbox)
    assert sandbox.peak_concurrency <= PARALLEL


@pytest.mark.promise(
    "A PDF viewer opens a new invoice for one call, also by a double click in the file manager."
)
@pytest.mark.parametrize(
    ("manager", "viewer"),
    [(THUNAR, ATRIL), (THUNAR, MUPDF), (NAUTILUS, EVINCE)],
    ids=lambda each: each.program,
)
def test_a_double_click_shows_an_invoice(
    screen: Screen, sandbox: Sandbox, folder: Path, manager: FileManager, viewer: Viewer
) -> None:
    viewer.choose(screen)
    window = manager.show(folder, screen)
    window.click(window.wait_for(FILE).label(FILE), times=2)
    viewer.wait_for(INVOICE, screen)
    costs.check(costs.DOUBLE_CLICK, sandbox)


@pytest.mark.promise(
    "A PDF viewer opens a new invoice for one call, also by a double click in the file manager."
)
@pytest.mark.parametrize("viewer", [ATRIL, EVINCE, MUPDF], ids=lambda each: each.program)
def test_a_viewer_shows_a_new_invoice(
    screen: Screen, sandbox: Sandbox, folder: Path, viewer: Viewer
) -> None:
    screen.start(viewer.program, folder / FILE)
    viewer.wait_for(INVOICE, screen)
    costs.check(costs.VIEWER, sandbox)


@pytest.mark.promise(
    "Copy and paste in a file manager, and `gio copy`, give the server's bytes for one call per "
    "invoice."
)
@IN_EACH_MANAGER
def test_a_folder_is_copied_and_pasted(
    screen: Screen, sandbox: Sandbox, folder: Path, archive: Path, manager: FileManager
) -> None:
    window = manager.show(folder, screen)
    window.click(window.wait_for(FILE).label(FILE))
    window.press("ctrl+a", "ctrl+c")
    target = manager.show(archive, screen)
    target.click(target.wait_for(NOTE).label(NOTE))
    target.press("ctrl+v")
    note = (archive / NOTE).read_bytes()
    copied = {NOTE: note, **contents(sandbox.tenant)}
    eventually(lambda: in_folder(archive) == copied, PATIENCE_S)
    costs.check(costs.PASTE, sandbox)


@pytest.mark.promise(
    "Copy and paste in a file manager, and `gio copy`, give the server's bytes for one call per "
    "invoice."
)
def test_a_folder_is_copied_by_the_desktops_own_command(
    screen: Screen, sandbox: Sandbox, folder: Path, archive: Path
) -> None:
    screen.run("gio", "copy", *(folder / name for name in contents(sandbox.tenant)), archive)
    (archive / NOTE).unlink()
    assert in_folder(archive) == contents(sandbox.tenant)
    costs.check(costs.GIO_COPY, sandbox)


@pytest.mark.promise(
    "A mount in your home is in the side bar of file managers, and the desktop's own means unmount "
    "it."
)
@IN_EACH_MANAGER
def test_a_mount_in_the_home_is_in_the_side_bar_and_gio_unmounts_it(
    screen: Screen, mounts: Mounts, manager: FileManager
) -> None:
    path = screen.home / "My invoices"
    path.mkdir()
    mount = mounts.mount(path=path)
    window = manager.show(screen.home.parent, screen)
    window.wait_for(path.name)
    screen.run("gio", "mount", "--unmount", path)
    mount.wait_until_ended()
    assert not mount.is_mounted
