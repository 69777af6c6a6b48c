"""The encoding of listings and records: JSON, sealed with a digest.

The seal covers the key and the text, so a value that is corrupt, truncated or stored under another
key is ignored, and so is one that a future version seals in another way. Pure functions.
"""

import hashlib
import json
from dataclasses import replace

from invoicefs.model import Invoice, Listing, Record, StoredContent

_SEAL_CHARACTERS = 64  # the length of a SHA-256 in hex


def sealed(key: str, value: object) -> str:
    """Return the text to save under this key for a JSON value."""
    text = json.dumps(value)
    return _seal(key, text) + text


def unsealed(key: str, stored: object) -> object:
    """Return the value that was sealed for this key, or None if the seal does not match."""
    if not isinstance(stored, str) or not stored.isascii():
        return None
    text = stored[_SEAL_CHARACTERS:]
    try:
        value: object = json.loads(text) if stored == _seal(key, text) + text else None
    except (ValueError, RecursionError):  # a valid seal does not guarantee valid JSON
        return None
    return value


def namespaces_from(value: object) -> tuple[str, ...]:
    """Return the namespaces in a JSON value; empty if there are none."""
    return tuple(name for name in _list(value) if isinstance(name, str))


def listing_fields(listing: Listing) -> list[object]:
    """Return the JSON value of a listing."""
    return [
        (
            invoice.name,
            invoice.active,
            invoice.status,
            invoice.amount,
            invoice.currency,
            invoice.period_start,
            invoice.period_end,
        )
        for invoice in listing.invoices
    ]


def listing_from(namespace: str, value: object) -> Listing | None:
    """Return the listing that a JSON value represents, or None."""
    if not isinstance(value, list):
        return None
    invoices = (_invoice_from(namespace, fields) for fields in value)
    return Listing.of([invoice for invoice in invoices if invoice is not None])


def record_fields(record: Record) -> list[object]:
    """Return the JSON value of a record; its last field is an object, and usually left out."""
    fields: list[object] = [record.mtime_ns]
    if record.content is not None:
        facts = record.content
        fields += [facts.size_bytes, facts.sha256, facts.version, facts.fetched_ns]
    if record.earlier or record.not_found:
        fields.append({"earlier": record.earlier, "not_found": record.not_found})
    return fields


def record_from(value: object) -> Record | None:
    """Return the record that a JSON value represents, or None."""
    match value:
        case [*facts, {"earlier": [*earlier], "not_found": str(not_found)}]:
            record = record_from(facts)
            digests = tuple(digest for digest in earlier if isinstance(digest, str))
            return record and replace(record, earlier=digests, not_found=not_found)
        case [int() | None as mtime_ns]:
            return Record(mtime_ns)
        case [int(mtime_ns), int(size), str(sha256), str(version), int(fetched_ns)] if size > 0:
            return Record(mtime_ns, StoredContent(size, sha256, version, fetched_ns))
        case _:
            return None


def _invoice_from(namespace: str, fields: object) -> Invoice | None:
    match fields:
        case [str(), bool(), str(), str(), str(), str(), str()]:
            return Invoice(namespace, *fields)  # type: ignore[arg-type] # matched above
        case _:
            return None


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _seal(key: str, text: str) -> str:
    return hashlib.sha256(f"{key}\n{text}".encode()).hexdigest()
