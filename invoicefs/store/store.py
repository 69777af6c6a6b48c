"""Keeps and verifies bytes and records on disk.

One folder per API URL, 0700, its files 0600, with two caches in it:

- ``pdf``: contents by their SHA-256, limited in size; the longest stored ones go first.
- ``meta``: listings and records by name, as JSON text; never evicted, because sizes and mtimes
  have to stay known for ever.

Contents are addressed by what they are, so replacing one is a single step, the new record, and
two mounts that share a store can never mix two versions.

Whatever cannot be read and verified is a miss, and what cannot be written costs caching, never an
invoice: see `cache`. Nothing but `StoreUnusable`, and that only from `open_store`, leaves this
module. Threading: see `cache`.
"""

import hashlib
import logging
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from invoicefs.clock import Clock
from invoicefs.errors import StoreUnusable
from invoicefs.folders import own_folder
from invoicefs.library.access import Question
from invoicefs.model import (
    Content,
    Invoice,
    Listing,
    Record,
    StoredContent,
    is_whole_pdf,
)
from invoicefs.names import directory_name, file_name
from invoicefs.store import encoding as records
from invoicefs.store.disk_cache import DiskCache
from invoicefs.store.spill import SpilledPdf, spilled
from invoicefs.store.sqlite_errors import PASSING_ERRNOS

log = logging.getLogger(__name__)

_NAMESPACES_KEY: Final = "namespaces"
_FINGERPRINT_KEY: Final = "fingerprint-key"
_INLINE_BYTES = 32 * 1024  # smaller values are kept in the database itself
# diskcache removes a replaced file before the transaction ends, so if that fails both are lost.
_NEVER_IN_FILES = 2**30
_ANY_NUMBER = sys.maxsize
_CULL_LIMIT = 2  # at most so many are evicted per write; 10 can empty a small cache (measured)


def store_folder(cache_dir: Path, url: str) -> Path:
    """The folder of one API: readable by its host, unique by a hash of the whole URL."""
    host = re.sub(r"[^a-z0-9.-]", "_", urlsplit(url).netloc)
    return cache_dir / f"{host}-{hashlib.sha256(url.encode()).hexdigest()[:10]}"


def open_store(folder: Path, size_limit_bytes: int, clock: Clock) -> "Store":
    """Open the store in a folder, made where it is missing.

    Raises `StoreUnusable` where the folder cannot be had for us alone. A disk that is full or
    read-only is no reason for that: see `Store.trouble`.
    """
    if os.path.expandvars(folder) != str(folder):  # which diskcache would do
        raise StoreUnusable(f"The cache folder {folder} holds a variable: give it in full.")
    try:
        own_folder(folder)
    except OSError as error:
        if error.errno not in PASSING_ERRNOS:
            raise StoreUnusable(
                f"The cache folder {folder} cannot be used ({error.strerror}): "
                "give another with --cache-dir."
            ) from error
    return Store(folder, size_limit_bytes, clock)


class Store:
    """The bytes and records of one tenant. Made by `open_store`."""

    def __init__(self, folder: Path, size_limit_bytes: int, clock: Clock) -> None:
        self._folder = folder
        self._refill: Callable[[], bool] = _there_is_nothing
        self._pdfs = DiskCache(
            folder,
            "pdf",
            clock,
            _there_is_nothing,  # what it lacks is downloaded again
            size_limit=size_limit_bytes,
            eviction_policy="least-recently-stored",
            cull_limit=_CULL_LIMIT,
            disk_min_file_size=_INLINE_BYTES,
        )
        self._meta = DiskCache(
            folder,
            "meta",
            clock,
            lambda: self._refill(),
            eviction_policy="none",
            cull_limit=0,
            disk_min_file_size=_NEVER_IN_FILES,
        )

    @property
    def trouble(self) -> str | None:
        """Why the store cannot be used just now, in words; None where it can."""
        return self._pdfs.trouble or self._meta.trouble

    def close(self) -> None:
        """Close the connections of the calling thread."""
        self._pdfs.close()
        self._meta.close()

    def when_lost(self, refill: Callable[[], bool]) -> None:
        """Have this called when listings and records that were kept have been lost.

        In whatever thread notices that. It may use the store, and says whether it could keep all
        once more; else it is called again later.
        """
        self._refill = refill

    def namespaces(self) -> tuple[str, ...]:
        """The last good list of namespaces; empty where there is none."""
        return records.namespaces_from(self._load(_NAMESPACES_KEY))

    def save_namespaces(self, namespaces: Iterable[str]) -> bool:
        """Keep a list of namespaces. Returns False where the disk cannot take it."""
        return self._keep(_NAMESPACES_KEY, list(namespaces))

    def listing(self, namespace: str) -> Listing | None:
        """The last good listing of a namespace, or None where there is none."""
        return records.listing_from(namespace, self._load(_listing_key(namespace)))

    def save_listing(self, namespace: str, listing: Listing) -> bool:
        """Keep the listing of a namespace. Returns False where the disk cannot take it."""
        return self._keep(_listing_key(namespace), records.listing_fields(listing))

    def record(self, invoice: Invoice) -> Record | None:
        """What is remembered of an invoice, or None where nothing is."""
        return records.record_from(self._load(_record_key(invoice)))

    def records(self, invoices: Collection[Invoice]) -> dict[Invoice, Record]:
        """What is remembered of those of the invoices of which something is."""
        # Looking up the keys of a hundred thousand new ones in vain would take seconds.
        keys = self._meta.keys(at_most=len(invoices))
        if keys is not None:
            invoices = [each for each in invoices if _record_key(each) in keys]
        found = {invoice: self.record(invoice) for invoice in invoices}
        return {invoice: record for invoice, record in found.items() if record is not None}

    def save_records(self, known: Mapping[Invoice, Record]) -> bool:
        """Remember this of these invoices. Returns False where the disk cannot take it."""
        return self._meta.set(_sealed_records(known))

    def add_records(self, known: Mapping[Invoice, Record]) -> bool:
        """Remember this of those of the invoices of which nothing is remembered yet.

        Whether that was possible.
        """
        return self._meta.fill(_sealed_records(known), _is_record)

    def fingerprint_key(self, proposed: bytes) -> bytes:
        """The secret that fingerprints are keyed with: what is kept, else from now on this."""
        self._meta.add(_FINGERPRINT_KEY, records.sealed(_FINGERPRINT_KEY, proposed.hex()))
        kept = self._load(_FINGERPRINT_KEY)
        return bytes.fromhex(kept) if isinstance(kept, str) else proposed

    def verdict(self, question: Question) -> str | None:
        """What was kept of what a credential may see, or None where nothing was."""
        kept = self._load(_verdict_key(question))
        return kept if isinstance(kept, str) else None

    def save_verdicts(self, verdicts: Mapping[Question, str]) -> bool:
        """Keep what credentials may see. Returns False where the disk cannot take it."""
        keyed = {_verdict_key(question): verdict for question, verdict in verdicts.items()}
        return self._meta.set({key: records.sealed(key, verdict) for key, verdict in keyed.items()})

    def pdf(self, facts: StoredContent) -> bytes | None:
        """The content with these facts, verified; None where it is missing or damaged."""
        pdf = self._pdfs.get(facts.sha256)
        if not isinstance(pdf, bytes) or len(pdf) != facts.size_bytes:
            return None
        return pdf if _is_content(facts.sha256, pdf) else None

    def digests(self) -> set[str] | None:
        """The SHA-256 of all contents that are kept; None where they cannot be read."""
        return self._pdfs.keys(at_most=_ANY_NUMBER)

    def save(self, invoice: Invoice, content: Content) -> None:
        """Keep downloaded content and its record, the content first: a record promises it."""
        facts = content.record.content
        if facts is not None:
            # What is there and whole stays: replacing its file would pull it from under a reader.
            was_there = self._pdfs.add(facts.sha256, content.pdf) is False
            if was_there and self.pdf(facts) is None:
                self._pdfs.set({facts.sha256: content.pdf})
        self.save_records({invoice: content.record})

    def spill(self, pdf: bytes) -> SpilledPdf | None:
        """The bytes in a file without a name; None where the disk cannot take them."""
        try:
            return spilled(pdf, self._folder)
        except OSError as error:
            log.warning("The store %s cannot take what is open: %s", self._folder, error.strerror)
            return None

    # Upkeep, also beside mounts that use the store.

    def settle(self) -> None:
        """Give the files of the store the sizes that last, unless somebody is reading."""
        self._pdfs.settle()
        self._meta.settle()

    def remove_damaged(self, *, is_dry: bool) -> tuple[int, int] | None:
        """Check every content against its SHA-256, and remove what is not whole, unless `is_dry`.

        How many are whole, and how many were not; None where they cannot be read or removed. What
        is removed is downloaded again when it is opened.
        """
        found = self._pdfs.judge(_is_content)
        if found is None:
            return None
        damaged = [key for key, is_whole in found.items() if not is_whole]
        if not is_dry and not all(map(self._pdfs.remove, damaged)):
            return None
        return len(found) - len(damaged), len(damaged)

    def clear(self, *, everything: bool) -> bool:
        """Remove all contents, or `everything`: lists, sizes and dates, too.

        Whether that was possible.
        """
        return self._pdfs.clear() and (not everything or self._meta.clear())

    def _keep(self, key: str, value: object) -> bool:
        return self._meta.set({key: records.sealed(key, value)})

    def _load(self, key: str) -> object:
        return records.unsealed(key, self._meta.get(key))


def _is_content(key: str, pdf: object) -> bool:
    if not isinstance(pdf, bytes) or not is_whole_pdf(pdf):  # earlier versions kept half a PDF
        return False
    return hashlib.sha256(pdf).hexdigest() == key


def _is_record(key: str, stored: object) -> bool:
    return records.record_from(records.unsealed(key, stored)) is not None


def _listing_key(namespace: str) -> str:
    return f"listing/{directory_name(namespace) or file_name(namespace)}"


def _verdict_key(question: Question) -> str:
    folder = directory_name(question.namespace) or file_name(question.namespace)
    return f"access/{question.fingerprint}/{question.kind}/{folder}"


def _record_key(invoice: Invoice) -> str:
    return f"record/{invoice.key}"


def _sealed_records(known: Mapping[Invoice, Record]) -> dict[str, str]:
    fields = {_record_key(invoice): records.record_fields(each) for invoice, each in known.items()}
    return {key: records.sealed(key, value) for key, value in fields.items()}


def _there_is_nothing() -> bool:
    """The refill of what has nothing to be filled with."""
    return True
