"""Tenants for the embedded API server, with plain files instead of real invoices."""

from calendar import monthrange
from collections.abc import Mapping

from invoicefs.sandbox import SampleInvoice, SampleNamespace, SampleTenant, plain_pdf

NAMESPACE = "system"


def invoice(number: int, size_bytes: int = 1000, name: str = "") -> SampleInvoice:
    """Return a paid invoice; `number` is its month, counted from January 2020."""
    year, month_index = divmod(2020 * 12 + number, 12)
    month = f"{year}-{month_index + 1:02}"
    name = name or f"invoice-{month}"
    return SampleInvoice(
        name,
        plain_pdf(ascii(name), size_bytes),
        period_start=f"{month}-01T00:00:00.000000000Z",
        period_end=f"{month}-{monthrange(year, month_index + 1)[1]}T23:59:59.999999999Z",
    )


def tenant(*invoices: SampleInvoice) -> SampleTenant:
    """Return a tenant with one namespace."""
    return SampleTenant("acme", (SampleNamespace(NAMESPACE, invoices),))


def file_name(invoice: SampleInvoice) -> str:
    """Return the file name of an invoice whose name needs no encoding."""
    return f"{invoice.name}.pdf"


def contents(tenant: SampleTenant, namespace: str = NAMESPACE) -> Mapping[str, bytes]:
    """Return the content of each file of a namespace, without invoices that have no PDF."""
    invoices = tenant.by_name[namespace].invoices
    found = {file_name(invoice): invoice.content() for invoice in invoices}
    return {name: content for name, content in found.items() if content is not None}
