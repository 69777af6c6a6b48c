"""Takes the pictures of README, of the sample tenant: ``python -m tests.desktop.pictures``."""

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
_FOLDER = Path("/tmp/acme")  # noqa: S108 # the pictures show it, so it has a short name
_EQUAL = 30  # pictures in a row, after which nothing comes any more
_TERMINAL = (
    *("xterm", "-T", "Terminal", "-geometry", "136x13"),
    *("-fa", "DejaVu Sans Mono", "-fs", "10"),
)
_SESSION = 'echo "$ invoicefs status"; invoicefs status; exec sleep 600'


def main() -> None:
    _PICTURES.mkdir(exist_ok=True)
    with _desktop() as (screen, invoices):
        window = NAUTILUS.show(invoices / "system", screen, previews=True)
        window.press("ctrl+2", "ctrl+plus")  # icons instead of lines, and larger ones
        screen.run("xdotool", "windowsize", "--sync", window.number, "1180", "720")
        _take(window, "folder.png", screen)

        run("cp", "--recursive", invoices, screen.home / "archive")  # not all can be had
        screen.start(*_TERMINAL, "-e", "sh", "-c", _SESSION)
        _take(screen.wait_for_window("Terminal"), "status.png", screen)


@contextmanager
def _desktop() -> Iterator[tuple[Screen, Path]]:
    """The desktop of a user, and two namespaces of the sample tenant in a folder of the home."""
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
    """Take a picture of a window with its frame, once it has not changed for a while."""
    target = _PICTURES / name
    seen: list[bytes] = []

    def has_come_to_rest() -> bool:
        screen.run("import", "-window", window.number, "-frame", f"png24:{target}")
        seen.append(target.read_bytes())
        return len(seen) > _EQUAL and len(set(seen[-_EQUAL:])) == 1

    eventually(has_come_to_rest)


if __name__ == "__main__":
    main()
