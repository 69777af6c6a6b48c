"""Takes the screenshots of the sample tenant for README.

python -m tests.desktop.pictures
"""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from invoicefs.sandbox import Sandbox
from tests.desktop.file_managers import NAUTILUS
from tests.desktop.screen import Screen
from tests.desktop.window import Window
from tests.mount.support.mounts import CHECKOUT, Mounts
from tests.mount.support.programs import eventually, run

_PICTURES = CHECKOUT / "scripts" / "pictures"
_FOLDER = Path("/tmp/acme")  # noqa: S108 # visible in the pictures, so it is short
_STABLE_PICTURES = 30  # consecutive pictures, after which the window is stable
_TERMINAL = (
    *("xterm", "-T", "Terminal", "-geometry", "136x16"),
    *("-fa", "DejaVu Sans Mono", "-fs", "10"),
)
_SESSION = 'echo "$ invoicefs status"; invoicefs status; exec sleep 600'


def main() -> None:
    _PICTURES.mkdir(exist_ok=True)
    with _desktop() as (screen, invoices):
        window = NAUTILUS.show(invoices / "system", screen, previews=True)
        window.press("ctrl+2", "ctrl+plus")  # large icons instead of a list
        screen.run("xdotool", "windowsize", "--sync", window.number, "1180", "720")
        _take(window, "folder.png", screen)

        run("cp", "--recursive", invoices, screen.home / "archive")  # fails for some invoices
        screen.start(*_TERMINAL, "-e", "sh", "-c", _SESSION)
        _take(screen.wait_for_window("Terminal"), "status.png", screen)


@contextmanager
def _desktop() -> Iterator[tuple[Screen, Path]]:
    """A desktop session, and a mount of two namespaces of the sample tenant in its home."""
    _FOLDER.mkdir()
    try:
        with (
            Sandbox() as sandbox,
            closing(Mounts(sandbox, _FOLDER)) as mounts,
            closing(Screen(_FOLDER / "home", mounts.folder / "runtime")) as screen,
        ):
            invoices = screen.home / "invoices"
            invoices.mkdir()
            mounts.mount("--namespace", "system", "--namespace", "legal", path=invoices)
            yield screen, invoices
    finally:
        shutil.rmtree(_FOLDER)


def _take(window: Window, name: str, screen: Screen) -> None:
    """Take a picture of a window and its frame once it has stopped changing."""
    target = _PICTURES / name
    seen: list[bytes] = []

    def is_stable() -> bool:
        screen.run("import", "-window", window.number, "-frame", f"png24:{target}")
        seen.append(target.read_bytes())
        return len(seen) > _STABLE_PICTURES and len(set(seen[-_STABLE_PICTURES:])) == 1

    eventually(is_stable)


if __name__ == "__main__":
    main()
