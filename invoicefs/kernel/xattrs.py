"""Extended attributes (xattr(7)) of invoices, for ``getfattr -d``."""

from collections.abc import Mapping

from invoicefs.library.results import Description

ERROR = "user.invoicefs.error"
"""The attribute that says why the last open failed. It is not listed, so that it is not copied."""

_LARGEST_BYTES = 64 * 1024  # XATTR_SIZE_MAX, see limits.h
_PREFIX = "user.invoicefs."
_FIELDS = ("status", "period_start", "period_end", "amount", "currency")


def described(description: Description) -> Mapping[str, bytes]:
    """Return the extended attributes of an invoice by name, without those that are empty."""
    fields: dict[str, str | None] = {}
    if (invoice := description.invoice) is not None:
        fields = {name: getattr(invoice, name) for name in _FIELDS}
        fields["active"] = "true" if invoice.active else "false"
    fields["sha256"] = description.sha256
    return {_PREFIX + name: value(text) for name, text in fields.items() if text}


def value(text: str) -> bytes:
    """Return text as an attribute value: invalid characters escaped, truncated to the maximum."""
    return text.encode("utf-8", "backslashreplace")[:_LARGEST_BYTES]
