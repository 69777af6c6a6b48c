"""The tenants that all contestants archive and list, with one namespace for each purpose.

They never change, and their content is generated from seeds, so each process generates its own.
"""

from calendar import monthrange
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from random import Random

from invoicefs.sandbox import SampleInvoice, SampleNamespace, SampleTenant, plain_pdf
from tests.mount.support.tenants import contents

ARCHIVE = "archive"  # copied as a whole
CROWDED = "crowded"  # one invoice, which many threads read at the same time
LARGE = "large"  # copied as a whole, too
OTHERS = tuple(f"other-{number}" for number in range(4))  # read while another one is copied
SMALL = tuple(f"small-{number:02}" for number in range(60))  # copied together
THOUSAND = "thousand"
TEN_THOUSAND = "ten-thousand"
HUNDRED_THOUSAND = "hundred-thousand"
THREE_HUNDRED_THOUSAND = "three-hundred-thousand"

COUNTS: Mapping[str, int] = {
    ARCHIVE: 200,
    CROWDED: 1,
    LARGE: 1_000,
    **dict.fromkeys(OTHERS, 2),
    **dict.fromkeys(SMALL, 3),
    THOUSAND: 1_000,
    TEN_THOUSAND: 10_000,
    HUNDRED_THOUSAND: 100_000,
    THREE_HUNDRED_THOUSAND: 300_000,
}
PDF_BYTES = 100_000
_WITH_RANDOM_PDFS = (ARCHIVE, CROWDED, LARGE, *OTHERS, *SMALL)
_SMALL_PDF = plain_pdf("small", 1_000)  # for all others, most of which are only listed
_MONTHS = 300  # so that all years have four digits


_MAIN = (ARCHIVE, CROWDED, LARGE, *OTHERS, THOUSAND, TEN_THOUSAND, HUNDRED_THOUSAND)


def _tenant(*names: str) -> SampleTenant:
    namespaces = (SampleNamespace(name, tuple(_newest_first(name))) for name in names)
    return SampleTenant("acme", tuple(namespaces))


def _tenant_of_empty_namespaces() -> SampleTenant:
    names = (f"namespace-{number:06}" for number in range(COUNTS[HUNDRED_THOUSAND]))
    return SampleTenant("acme", tuple(map(SampleNamespace, names)))


TENANTS: Mapping[str, Callable[[], SampleTenant]] = {
    "invoices": partial(_tenant, *_MAIN),
    "archive": partial(_tenant, ARCHIVE),
    "small-namespaces": partial(_tenant, *SMALL),
    "large-listings": partial(_tenant, CROWDED, HUNDRED_THOUSAND, THREE_HUNDRED_THOUSAND),
    "empty-namespaces": _tenant_of_empty_namespaces,
}
"""The tenants that a server can have; the last one has 100 000 namespaces."""


@cache
def files_of(namespace: str) -> Mapping[str, bytes]:
    """Return the expected content of a copy of a namespace."""
    invoices = SampleNamespace(namespace, tuple(_newest_first(namespace)))
    return contents(SampleTenant("acme", (invoices,)), namespace)


def _newest_first(namespace: str) -> Iterator[SampleInvoice]:
    count = COUNTS[namespace]
    has_random_pdfs = namespace in _WITH_RANDOM_PDFS
    for number in reversed(range(count)):
        year, month_index = divmod(2001 * 12 + number * _MONTHS // count, 12)
        month = f"{year}-{month_index + 1:02}"
        yield SampleInvoice(
            f"invoice-{number:06}",
            _pdf(f"{namespace}/{number}") if has_random_pdfs else _SMALL_PDF,
            period_start=f"{month}-01T00:00:00.000000000Z",
            period_end=f"{month}-{monthrange(year, month_index + 1)[1]}T23:59:59.999999999Z",
        )


def _pdf(seed: str) -> bytes:
    random = Random(seed)  # noqa: S311 # the same in every process
    head, tail = b"%PDF-1.4\n", b"\n%%EOF\n"
    return head + random.randbytes(PDF_BYTES - len(head) - len(tail)) + tail
