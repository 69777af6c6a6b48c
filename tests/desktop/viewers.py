"""The PDF viewers: how each becomes the default, and the title of its window."""

from dataclasses import dataclass

from tests.desktop.screen import Screen
from tests.desktop.window import Window


@dataclass(frozen=True)
class Viewer:
    """A PDF viewer; its window title contains words that it can know only from the PDF."""

    program: str
    entry: str
    title: str

    def make_default(self, screen: Screen) -> None:
        """Make it the default program for PDF files."""
        screen.run("gio", "mime", "application/pdf", self.entry)

    def wait_for(self, invoice: str, screen: Screen) -> Window:
        """Wait until it shows an invoice."""
        return screen.wait_for_window(self.title.format(invoice))


# Evince and Atril show the title from the PDF, MuPDF the page number and the page count.
ATRIL = Viewer("atril", "atril.desktop", "{0}.pdf \u2014 Invoice {0}")
EVINCE = Viewer("evince", "org.gnome.Evince.desktop", "{0}.pdf \u2014 Invoice {0}")
MUPDF = Viewer("mupdf", "mupdf.desktop", "{0}.pdf - 1/1 (* dpi)")
