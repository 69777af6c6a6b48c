"""The requests ``namespaces`` and ``list``: what a tenant has, as JSON values.

A running mount responds to them over its control socket. Without a mount, a command responds to
them itself: see `unmounted`.
"""

from collections.abc import Mapping
from typing import Any

from invoicefs.errors import Denied, InvoicefsError, Unauthenticated, UserError
from invoicefs.library.inventory import Inventory
from invoicefs.library.results import ListedInvoice


def respond(inventory: Inventory, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the response to a request; raises an `InvoicefsError` if the request fails.

    ``{"ask": "namespaces"}`` gets ``directories``, the names of all directories, and
    ``{"ask": "list", "directory": NAME}`` gets ``invoices``, one object per invoice. In both,
    ``failure`` is why the last good list is returned instead of a new one, or null. A directory
    that the credential was never allowed to list has no invoices, and ``forbidden`` says why.
    """
    match request:
        case {"ask": "namespaces"}:
            directories, failure = inventory.directories()
            return {"directories": directories, "failure": _words(failure)}
        case {"ask": "list", "directory": str(directory)}:
            return _listing(inventory, directory)
        case _:
            raise UserError("The request needs a directory.")


def _listing(inventory: Inventory, directory: str) -> Mapping[str, Any]:
    try:
        invoices, failure = inventory.invoices(directory)
    except Unauthenticated:
        raise
    except Denied as error:
        if inventory.has_listed(directory):
            raise
        return {"invoices": (), "failure": None, "forbidden": str(error)}
    fields = [_fields(listed) for listed in invoices]
    return {"invoices": fields, "failure": _words(failure), "forbidden": None}


def _fields(listed: ListedInvoice) -> Mapping[str, Any]:
    """Return the fields of an invoice; a field that the API omits is empty.

    ``sha256`` and ``size_bytes`` describe the content that was downloaded last, which is that of
    the listed version if ``is_current``, and are null before the first download.
    """
    invoice, record = listed.invoice, listed.record
    content = record.content if record else None
    return {
        "namespace": invoice.namespace,
        "name": invoice.name,
        "path": f"/{invoice.key}",
        "active": invoice.active,
        "status": invoice.status,
        "amount": invoice.amount,
        "currency": invoice.currency,
        "period_start": invoice.period_start,
        "period_end": invoice.period_end,
        "size_bytes": content and content.size_bytes,
        "sha256": content and content.sha256,
        "earlier": record.earlier if record else (),
        "is_current": listed.is_current,
        "is_available": listed.is_available,
        "is_unpaid": listed.is_unpaid,
        "open_error": listed.open_error,
    }


def _words(failure: InvoicefsError | None) -> str | None:
    return None if failure is None else str(failure)
