"""Desktop programs on a folder of invoices: what they show, do and cost."""

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
    "manager", [NAUTILUS, THUNAR], ids=lambda manager: manager.program
)


@pytest.fixture
def folder(sandbox: Sandbox, mounts: Mounts) -> Path:
    """A folder with the invoices of three years, without those that have no PDF yet."""
    invoices = sandbox.tenant.by_name[NAMESPACE].invoices
    sandbox.tenant = tenant(*(invoice for invoice in invoices if invoice.content() is not None))
    return mounts.mount("--list-ttl", "1h", "--active-ttl", "1h", "--read-ahead", "0") / NAMESPACE


@pytest.fixture
def archive(screen: Screen) -> Path:
    """A folder in the user's home, with a file that is not a PDF."""
    folder = screen.home / "archive"
    folder.mkdir()
    (folder / NOTE).write_text("Do not file these by hand.")
    return folder


def invoice_names(page: Page) -> set[str]:
    return {text.removesuffix(".pdf") for text in page.texts if text.endswith(".pdf")}


@pytest.mark.promise(
    "A file manager shows names, dates and the upper bounds of sizes for one list request and"
    " no PDF request."
)
@IN_EACH_MANAGER
def test_a_file_manager_shows_names_and_upper_bounds_with_one_request(
    screen: Screen, sandbox: Sandbox, folder: Path, manager: FileManager
) -> None:
    page = manager.show(folder, screen).wait_for(FILE)
    names = invoice_names(page)
    assert len(names) >= costs.ALWAYS_IN_VIEW
    assert names <= {invoice.name for invoice in sandbox.tenant.by_name[NAMESPACE].invoices}
    assert page.beside(FILE) == manager.new_invoice
    costs.check(costs.FOLDER_VIEW, sandbox)


@pytest.mark.promise(
    "In a file manager a downloaded invoice looks like an ordinary file, with its size, its "
    "date and its icon."
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
    "A file manager with previews downloads each invoice that it previews once, within "
    "`--parallel`."
)
@IN_EACH_MANAGER
def test_previews_download_each_invoice_once_within_parallel(
    screen: Screen, sandbox: Sandbox, folder: Path, manager: FileManager
) -> None:
    wanted = invoice_names(manager.show(folder, screen, previews=True).wait_for(FILE))
    if manager.cost_of_previews is costs.PREVIEWS_OF_ALL:
        wanted = {invoice.name for invoice in sandbox.tenant.by_name[NAMESPACE].invoices}
    eventually(lambda: len(screen.thumbnails) >= len(wanted), PREVIEWS_S)
    assert costs.downloads(sandbox).keys() >= wanted
    costs.check(manager.cost_of_previews, sandbox)
    assert sandbox.peak_concurrency <= PARALLEL


@pytest.mark.promise(
    "A PDF viewer opens a new invoice for one request, even by a double click in the file manager."
)
@pytest.mark.parametrize(
    ("manager", "viewer"),
    [(THUNAR, ATRIL), (THUNAR, MUPDF), (NAUTILUS, EVINCE)],
    ids=lambda program: program.program,
)
def test_a_double_click_opens_an_invoice_with_one_download(
    screen: Screen, sandbox: Sandbox, folder: Path, manager: FileManager, viewer: Viewer
) -> None:
    viewer.make_default(screen)
    window = manager.show(folder, screen)
    window.click(window.wait_for(FILE).label(FILE), times=2)
    viewer.wait_for(INVOICE, screen)
    costs.check(costs.DOUBLE_CLICK, sandbox)


@pytest.mark.promise(
    "A PDF viewer opens a new invoice for one request, even by a double click in the file manager."
)
@pytest.mark.parametrize("viewer", [ATRIL, EVINCE, MUPDF], ids=lambda viewer: viewer.program)
def test_a_viewer_opens_a_new_invoice_with_one_download(
    screen: Screen, sandbox: Sandbox, folder: Path, viewer: Viewer
) -> None:
    screen.start(viewer.program, folder / FILE)
    viewer.wait_for(INVOICE, screen)
    costs.check(costs.VIEWER, sandbox)


@pytest.mark.promise(
    "Copy and paste in a file manager, and `gio copy`, give the server's bytes for one "
    "request per invoice."
)
@IN_EACH_MANAGER
def test_copy_and_paste_downloads_each_invoice_once(
    screen: Screen,
    sandbox: Sandbox,
    mounts: Mounts,
    folder: Path,
    archive: Path,
    manager: FileManager,
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
    mounts.command("verify", archive, folder).good()


@pytest.mark.promise(
    "Copy and paste in a file manager, and `gio copy`, give the server's bytes for one "
    "request per invoice."
)
def test_gio_copy_downloads_each_invoice_once(
    screen: Screen, sandbox: Sandbox, folder: Path, archive: Path
) -> None:
    screen.run("gio", "copy", *(folder / name for name in contents(sandbox.tenant)), archive)
    (archive / NOTE).unlink()
    assert in_folder(archive) == contents(sandbox.tenant)
    costs.check(costs.GIO_COPY, sandbox)


@pytest.mark.promise(
    "A mount in your home is in the sidebar of file managers, and the desktop's own tools "
    "unmount it."
)
@IN_EACH_MANAGER
def test_a_mount_in_the_home_is_in_the_sidebar_and_gio_unmounts_it(
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
