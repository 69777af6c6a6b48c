"""The file managers: how each is configured, started and recognised."""

from dataclasses import dataclass
from pathlib import Path

from tests.desktop.costs import PREVIEWS_IN_VIEW, PREVIEWS_OF_ALL, Cost
from tests.desktop.screen import Screen
from tests.desktop.window import Window

PREVIEWS_S = 200  # tumblerd runs at nice 19: any other busy process goes first


@dataclass(frozen=True)
class FileManager:
    """A file manager, which shows a folder as a list with names, sizes and dates.

    `settings`, which contains `when_previews` or `when_plain`, is written to a file in the user's
    home. `thumbnailer` is the D-Bus service that makes its previews, if any, and
    `cost_of_previews` their cost. `new_invoice` is the text next to the name of an invoice of
    February 2024 that was never opened.
    """

    program: str
    title: str
    settings_path: str
    settings: str
    when_previews: str
    when_plain: str
    thumbnailer: str | None
    cost_of_previews: Cost
    new_invoice: tuple[str, ...]

    def show(self, folder: Path, screen: Screen, *, previews: bool = False) -> Window:
        """Open a window that shows a folder."""
        file = screen.home / self.settings_path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.settings.format(self.when_previews if previews else self.when_plain))
        if previews and self.thumbnailer:
            # Thunar asks only once, and shows no previews if the service takes 25 s to start.
            wait = ("gdbus", "wait", "--session", "--timeout", str(PREVIEWS_S))
            screen.run(
                *wait, "--activate", self.thumbnailer, self.thumbnailer, timeout_s=PREVIEWS_S
            )
        screen.start(self.program, folder)
        return screen.wait_for_window(self.title.format(folder.name))


THUNAR = FileManager(
    program="thunar",
    title="{} - Thunar",
    settings_path=".config/xfce4/xfconf/xfce-perchannel-xml/thunar.xml",
    settings="""<?xml version="1.0" encoding="UTF-8"?>
        <channel name="thunar" version="1.0">
            <property name="last-view" type="string" value="ThunarDetailsView"/>
            <property name="misc-thumbnail-mode" type="string" value="THUNAR_THUMBNAIL_MODE_{}"/>
        </channel>
        """,
    when_previews="ALWAYS",
    when_plain="NEVER",
    thumbnailer="org.freedesktop.thumbnails.Thumbnailer1",
    cost_of_previews=PREVIEWS_IN_VIEW,
    new_invoice=("16.0 MiB", "PDF document", "02/29/24"),
)

NAUTILUS = FileManager(
    program="nautilus",
    title="{}",
    settings_path=".config/glib-2.0/settings/keyfile",
    settings="""[org/gnome/nautilus/preferences]
        default-folder-viewer='list-view'
        show-image-thumbnails='{}'
        """.replace("    ", ""),
    when_previews="always",
    when_plain="never",
    thumbnailer=None,
    cost_of_previews=PREVIEWS_OF_ALL,
    new_invoice=("16.8 MB", "29 Feb 2024"),
)
