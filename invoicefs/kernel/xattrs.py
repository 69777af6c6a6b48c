"""Extended attributes (xattr(7)): what is known of an invoice, for ``getfattr -d``."""

from collections.abc import Mapping

from invoicefs.model import Invoice

ERROR = "user.invoicefs.error"
"""Why the last open failed. It is not listed, so that copies of the file do not carry it."""

_LARGEST_BYTES = 64 * 1024  # XATTR_SIZE_MAX, see limits.h
_PREFIX = "user.invoicefs."
_FIELDS = ("status", "period_start", "period_end", "amount", "currency")


def described(invoice: Invoice) -> Mapping[str, bytes]:
    """What the listing says of an invoice; a field that is empty is not among it."""
    fields = {name: getattr(invoice, name) for name in _FIELDS}
    fields["active"] = "true" if invoice.active else "false"
    return {_PREFIX + name: value(text) for name, text in fields.items() if text}


def digest(sha256: str | None) -> Mapping[str, bytes]:
    """The SHA-256 of the content, once it is known."""
    return {_PREFIX + "sha256": value(sha256)} if sha256 else {}


def value(text: str) -> bytes:
    """The text as a value, whatever a server or a file name holds, cut to what a value can be."""
    return text.encode("utf-8", "backslashreplace")[:_LARGEST_BYTES]
