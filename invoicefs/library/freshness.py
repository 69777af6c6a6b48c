"""Whether downloaded content may still be served. Pure functions of record, invoice and time."""

import enum

from invoicefs.clock import NS_PER_S
from invoicefs.model import Invoice, Record


class Freshness(enum.Enum):
    """The state of the content that a record describes.

    | | the listing has | age | next open |
    |---|---|---|---|
    | MISSING | - | never downloaded | downloads |
    | CHANGED | another version | any | downloads |
    | EXPIRED | the same draft | at least the TTL, or before a refresh | downloads |
    | FRESH | the same version | any if final, else below the TTL | serves it |
    """

    MISSING = enum.auto()
    CHANGED = enum.auto()
    EXPIRED = enum.auto()
    FRESH = enum.auto()


def freshness(
    invoice: Invoice,
    record: Record | None,
    *,
    now_ns: int,
    draft_ttl_s: float,
    refreshed_ns: int,
) -> Freshness:
    """Return the freshness of an invoice's record; times are wall-clock nanoseconds.

    A draft that was downloaded in the future, because the wall clock went back, has expired, and
    so has one that was downloaded before `refreshed_ns`.
    """
    facts = record.content if record else None
    if facts is None:
        return Freshness.MISSING
    if facts.version != invoice.version:
        return Freshness.CHANGED
    age_ns = now_ns - facts.fetched_ns
    is_young = 0 <= age_ns < int(draft_ttl_s * NS_PER_S)
    if not invoice.active or (is_young and facts.fetched_ns > refreshed_ns):
        return Freshness.FRESH
    return Freshness.EXPIRED
