"""The PDF viewers: how each is made the one of the desktop, and what it calls its window."""

from dataclasses import dataclass

from tests.desktop.screen import Screen
from tests.desktop.window import Window


@dataclass(frozen=True)
class Viewer:
    """A PDF viewer; the title of its window has words that only a page that it could read gives."""

    program: str
    entry: str
    title: str

    def choose(self, screen: Screen) -> None:
        """Make it what a double click on a PDF opens."""
        screen.run("gio", "mime", "application/pdf", self.entry)

    def wait_for(self, invoice: str, screen: Screen) -> Window:
        """Wait until it shows an invoice."""
        return screen.wait_for_window(self.title.format(invoice))


# Evince and Atril show the title that is in the PDF, MuPDF the page and how many there are.
ATRIL = Viewer("atril", "atril.desktop", "{0}.pdf \u2014 Invoice {0}")
EVINCE = Viewer("evince", "org.gnome.Evince.desktop", "{0}.pdf \u2014 Invoice {0}")
MUPDF = Viewer("mupdf", "mupdf.desktop", "{0}.pdf - 1/1 (* dpi)")
