"""The data of a tenant, which the API serves.

`sample_tenant` makes the one that ``invoicefs demo`` shows. Others are built from the same parts,
and changed with ``dataclasses.replace`` and `SampleTenant.with_invoices`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import Final

from invoicefs.sandbox.calls import Endpoint


class _Omitted(Enum):
    OMITTED = "omitted"


OMITTED: Final = _Omitted.OMITTED
"""The value of a field that the API omits."""


@dataclass(frozen=True)
class SampleInvoice:
    """An invoice of the sandbox.

    `name` may be any text. `pdf` is the content, or a function that creates it when it is
    requested; None means that the PDF request gets a 404. `fields` replaces fields of the listing
    with other JSON values, or omits them: ``fields={"amount": OMITTED, "active": "yes"}``.
    The other attributes are the vendor's fields: `amount` is a number of cents as text; periods are
    RFC 3339 times with nanoseconds.
    """

    name: str
    pdf: bytes | Callable[[], bytes] | None = field(default=None, repr=False)
    active: bool = False
    amount: str = "123450"
    currency: str = "USD"
    period_start: str = "2026-01-01T00:00:00.000000000Z"
    period_end: str = "2026-01-31T23:59:59.999999999Z"
    status: str = "STATUS_PAID"
    fields: Mapping[str, object] = field(default_factory=dict)

    def listed(self) -> dict[str, object]:
        """Return the invoice as it appears in a listing."""
        fields = {
            "name": self.name,
            "active": self.active,
            "amount": self.amount,
            "currency": self.currency,
            "period_start": self.period_start,
            "period_end": self.period_end,
            "status": self.status,
            **self.fields,
        }
        return {name: value for name, value in fields.items() if value is not OMITTED}

    def content(self) -> bytes | None:
        """Return the PDF, or None."""
        return self.pdf() if callable(self.pdf) else self.pdf


@dataclass(frozen=True)
class SampleNamespace:
    """A namespace with its invoices in the order in which the API lists them: newest first.

    Requests to the endpoints in `forbidden` get a 403.
    """

    name: str
    invoices: tuple[SampleInvoice, ...] = ()
    forbidden: frozenset[Endpoint] = frozenset()

    @cached_property
    def by_name(self) -> Mapping[str, SampleInvoice]:
        """The invoices by name; if several have the same name, the newest."""
        return {invoice.name: invoice for invoice in reversed(self.invoices)}

    def invoices_json(self, limit: int) -> bytes:
        """Return the JSON that lists the newest `limit` invoices."""
        return b'{"invoices":[%b]}' % b",".join(self._items[:limit])

    @cached_property
    def _items(self) -> tuple[bytes, ...]:
        """Each invoice as JSON, encoded once, because a benchmark lists a hundred thousand."""
        return tuple(json.dumps(invoice.listed()).encode() for invoice in self.invoices)

    def with_invoices(self, *invoices: SampleInvoice) -> "SampleNamespace":
        """Return the namespace with these invoices added, or replacing those of the same name."""
        changed = {invoice.name: invoice for invoice in invoices}
        kept = tuple(changed.pop(invoice.name, invoice) for invoice in self.invoices)
        return replace(self, invoices=(*changed.values(), *kept))


@dataclass(frozen=True)
class SampleTenant:
    """A whole tenant. Namespaces are listed in the given order."""

    name: str = "acme"
    namespaces: tuple[SampleNamespace, ...] = ()

    @cached_property
    def by_name(self) -> Mapping[str, SampleNamespace]:
        """The namespaces by name."""
        return {namespace.name: namespace for namespace in self.namespaces}

    @cached_property
    def namespaces_json(self) -> bytes:
        """The JSON that lists the namespaces."""
        items = [
            {"tenant": self.name, "name": namespace.name, "disabled": False}
            for namespace in self.namespaces
        ]
        return json.dumps({"items": items}).encode()

    def with_invoices(self, namespace: str, *invoices: SampleInvoice) -> "SampleTenant":
        """Return the tenant with these invoices added to a namespace; see its `with_invoices`.

        Raises `KeyError` for a namespace that the tenant does not have.
        """
        changed = {**self.by_name, namespace: self.by_name[namespace].with_invoices(*invoices)}
        return replace(self, namespaces=tuple(changed.values()))
