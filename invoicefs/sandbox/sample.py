"""The tenant that ``invoicefs demo`` shows: invented, and the same on every run."""

from calendar import monthrange
from functools import partial

from invoicefs.sandbox.calls import Endpoint
from invoicefs.sandbox.pdfs import LineItem, Statement, invoice_pdf
from invoicefs.sandbox.tenant import SampleInvoice, SampleNamespace, SampleTenant

_TENANT = "acme"
_NEWEST_YEAR, _NEWEST_MONTH = 2026, 10
_STATUSES = {
    "2026-10": "STATUS_PENDING",
    "2026-09": "OVERDUE",
    "2026-07": "STATUS_ISSUED",
    "2025-03": "STATUS_REFUNDED",
}
# Products, quantities per month, and prices in cents.
_PRODUCTS = (
    ("Customer edge sites", 6, 24_900),
    ("HTTP load balancers", 14, 3_500),
    ("WAF requests (million)", 210, 65),
    ("Bot defence transactions (million)", 38, 410),
    ("DNS zones", 25, 150),
)


def sample_tenant() -> SampleTenant:
    """Return a tenant: a namespace of 36 monthly invoices, two small ones, and a forbidden one.

    The newest invoice of each namespace is a draft. In namespace ``system``, that of 2026-07 is
    issued but not paid, and its PDF request gets a 404. Requests in ``legal`` get a 403.
    """
    return SampleTenant(
        _TENANT,
        (
            SampleNamespace("system", _invoices("acme", "USD", months=36)),
            SampleNamespace("shared", _invoices("acme-shared", "USD", months=3)),
            SampleNamespace("retail-emea", _invoices("acme-retail-emea", "EUR", months=3)),
            SampleNamespace("legal", forbidden=frozenset({Endpoint.INVOICES, Endpoint.PDF})),
        ),
    )


def _invoices(account: str, currency: str, months: int) -> tuple[SampleInvoice, ...]:
    """Return the invoices of an account, newest first."""
    newest = _NEWEST_YEAR * 12 + _NEWEST_MONTH - 1
    return tuple(
        _invoice(account, currency, *divmod(newest - age, 12), growth=months - age)
        for age in range(months)
    )


def _invoice(
    account: str, currency: str, year: int, month_index: int, growth: int
) -> SampleInvoice:
    month = f"{year}-{month_index + 1:02}"
    last_day = monthrange(year, month_index + 1)[1]
    status = _STATUSES.get(month, "STATUS_PAID")
    statement = Statement(
        number=f"invoice-{account}-{month}",
        tenant=_TENANT,
        period=f"{month}-01 to {month}-{last_day}",
        status=status.removeprefix("STATUS_"),
        currency=currency,
        items=tuple(LineItem(text, start + growth, price) for text, start, price in _PRODUCTS),
    )
    return SampleInvoice(
        name=statement.number,
        pdf=None if status == "STATUS_ISSUED" else partial(invoice_pdf, statement),
        active=status == "STATUS_PENDING",
        amount=str(statement.total),
        currency=currency,
        period_start=f"{month}-01T00:00:00.000000000Z",
        period_end=f"{month}-{last_day}T23:59:59.999999999Z",
        status=status,
    )
