"""The tenant of the soak test, and the truth about its files.

It never changes, so each byte is known at any time. Its content is random, so a slice from the
wrong offset is noticed; and it is generated from seeds, so each process generates its own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from random import Random

from invoicefs.sandbox import SampleInvoice, SampleNamespace, SampleTenant
from tests.mount.support.tenants import contents, invoice

_INVOICES = {"system": 160, "shared": 80, "retail-emea": 40}
_DRAFTS_PER_NAMESPACE = 8  # the newest ones
_SMALLEST_BYTES, _LARGEST_BYTES = 2_000, 300_000


def soak_tenant() -> SampleTenant:
    """Return a tenant of a few namespaces with some hundred invoices of all sizes."""
    return SampleTenant(
        "acme",
        tuple(SampleNamespace(name, tuple(_newest_first(name))) for name in _INVOICES),
    )


class Truth:
    """The names and the content of the files of a tenant."""

    def __init__(self, tenant: SampleTenant) -> None:
        self._files = {name: contents(tenant, name) for name in tenant.by_name}

    @cached_property
    def folders(self) -> Mapping[str, frozenset[str]]:
        """The names in each folder, by its path below the mount point."""
        found = {name: frozenset(files) for name, files in self._files.items()}
        return {"": frozenset(found), **found}

    @cached_property
    def files(self) -> Mapping[str, bytes]:
        """The content of each file, by its path below the mount point."""
        return {
            f"{folder}/{name}": content
            for folder, files in self._files.items()
            for name, content in files.items()
        }


def _newest_first(namespace: str) -> Iterable[SampleInvoice]:
    count = _INVOICES[namespace]
    for number in reversed(range(count)):
        is_active = number >= count - _DRAFTS_PER_NAMESPACE
        yield replace(invoice(number), pdf=_pdf(f"{namespace}/{number}"), active=is_active)


def _pdf(seed: str) -> bytes:
    random = Random(seed)  # noqa: S311 # the same in every process
    size_bytes = random.randrange(_SMALLEST_BYTES, _LARGEST_BYTES)
    return b"%%PDF-1.4\n%b\n%%%%EOF\n" % random.randbytes(size_bytes)
