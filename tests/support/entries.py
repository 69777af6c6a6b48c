"""Invoices as the commands see them."""

import hashlib
from typing import Any

from invoicefs.cli.entries import Entry


def entry(name: str = "a", content: bytes | None = None, **fields: Any) -> Entry:
    """Return an invoice that was downloaded if it has a `content`; `fields` replaces others."""
    usual: dict[str, Any] = {
        "namespace": "system",
        "name": name,
        "inside": f"/system/{name}.pdf",
        "path": f"/mnt/system/{name}.pdf",
        "is_draft": False,
        "status": "paid",
        "amount_minor": 123450,
        "currency": "EUR",
        "period_start": "2026-01-01T00:00:00Z",
        "period_end": "2026-01-31T23:59:59Z",
        "size_bytes": None if content is None else len(content),
        "sha256": None if content is None else hashlib.sha256(content).hexdigest(),
        "earlier": (),
        "is_current": content is not None,
        "is_available": True,
        "open_error": None,
    }
    given = usual | fields
    given.setdefault("is_unpaid", given["status"] not in ("paid", ""))
    return Entry(**given)
