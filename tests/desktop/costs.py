"""What the programs of a desktop cost in API requests.

tests/README.md has the table that `table` returns; each row is tested by the tests that `check` it.
"""

from collections import Counter
from dataclasses import dataclass
from enum import Enum

from invoicefs.sandbox import Endpoint, Sandbox
from tests.mount.support.tenants import contents

ALWAYS_IN_VIEW = 4  # invoices that each window of a folder shows without scrolling


class Pdfs(Enum):
    """How many PDFs are requested, in the words of that table."""

    NONE = "none"
    ONE = "1"
    IN_VIEW = "each in view, once"
    EACH = "each, once"

    def are(self, downloads: Counter[str], names: set[str]) -> bool:
        """Whether these downloads of a folder with these invoices match."""
        is_once = set(downloads.values()) == {1}
        match self:
            case Pdfs.NONE:
                return not downloads
            case Pdfs.ONE:
                return is_once and len(downloads) == 1
            case Pdfs.IN_VIEW:
                return is_once and ALWAYS_IN_VIEW <= len(downloads) < len(names)
            case Pdfs.EACH:
                return is_once and set(downloads) == names


@dataclass(frozen=True)
class Cost:
    """A user's first action of one kind, and the requests that it makes."""

    what: str
    lists: int
    pdfs: Pdfs


FOLDER_VIEW = Cost("a file manager shows a folder (Thunar, Nautilus)", 1, Pdfs.NONE)
PREVIEWS_IN_VIEW = Cost("... with previews, Thunar", 1, Pdfs.IN_VIEW)
PREVIEWS_OF_ALL = Cost("... with previews, Nautilus", 1, Pdfs.EACH)
DOUBLE_CLICK = Cost(
    "a double click in a folder opens an invoice (Atril, Evince, MuPDF)", 1, Pdfs.ONE
)
VIEWER = Cost("a viewer opens an invoice directly (Atril, Evince, MuPDF)", 1, Pdfs.ONE)
PASTE = Cost("copy and paste of a whole folder (Thunar, Nautilus)", 1, Pdfs.EACH)
GIO_COPY = Cost("`gio copy` of a whole folder", 1, Pdfs.EACH)
UPDATEDB = Cost("`updatedb`, in each namespace", 1, Pdfs.NONE)
PRUNED = Cost("... with `fuse.invoicefs` in `PRUNEFS`", 0, Pdfs.NONE)
COSTS = (
    FOLDER_VIEW,
    PREVIEWS_IN_VIEW,
    PREVIEWS_OF_ALL,
    DOUBLE_CLICK,
    VIEWER,
    PASTE,
    GIO_COPY,
    UPDATEDB,
    PRUNED,
)


def check(cost: Cost, sandbox: Sandbox, namespace: str = "system") -> None:
    """Check the requests to the server so far against the expected cost."""
    lists = sandbox.count(Endpoint.INVOICES, namespace)
    assert lists == cost.lists, f"{lists} lists"
    assert lists == sandbox.count(Endpoint.INVOICES), "other namespaces were also listed"
    names = {name.removesuffix(".pdf") for name in contents(sandbox.tenant, namespace)}
    found = downloads(sandbox)
    assert cost.pdfs.are(found, names), f"{found}, of {len(names)}"


def downloads(sandbox: Sandbox) -> Counter[str]:
    """Return the number of PDF requests for each invoice."""
    return Counter(str(call.name) for call in sandbox.calls if call.endpoint is Endpoint.PDF)


def table() -> str:
    """Return the table of tests/README.md."""
    head = ("| action | list requests | PDF requests |", "|---|---|---|")
    return "\n".join(
        (*head, *(f"| {cost.what} | {cost.lists} | {cost.pdfs.value} |" for cost in COSTS))
    )
