"""PDFs, listings and records on disk.

There is one folder per API URL, with mode 0700, whose files have mode 0600. It has two databases:

- ``pdf``: PDFs by their SHA-256, limited in size; the least recently stored are evicted first.
- ``meta``: listings and records by key, as JSON text; never evicted, because sizes and mtimes
  must stay known for ever. See `metadata`.

PDFs are addressed by their content, so saving the new record is all it takes to replace one, and
two mounts that share a store can never mix two versions.

A value that cannot be read and verified is a miss; see also `verified_files`. If ``meta`` becomes
corrupt, all records are lost except those still waiting to be written: after the next mount, the
other invoices show an upper bound and the mtime of their period until they are downloaded again.
Only `open_store` raises an exception: `StoreUnusable`.
"""

import hashlib
import io
import logging
import os
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from invoicefs.clock import Clock
from invoicefs.errors import StoreUnusable
from invoicefs.folders import make_private_folder
from invoicefs.model import (
    AccessKey,
    Content,
    Invoice,
    Listing,
    Record,
    StoredContent,
    is_whole_pdf,
)
from invoicefs.names import directory_name, file_name
from invoicefs.store import encoding
from invoicefs.store.disk_cache import DiskCache
from invoicefs.store.metadata import Metadata
from invoicefs.store.spill import SpilledPdf, spilled
from invoicefs.store.sqlite_errors import TRANSIENT_ERRNOS
from invoicefs.store.verified_files import VerifiedFiles

log = logging.getLogger(__name__)

_NAMESPACES_KEY: Final = "namespaces"
_FINGERPRINT_KEY: Final = "fingerprint-key"
_INLINE_BYTES = 4 * 1024  # smaller values are kept in the database itself; files are read faster
_ANY_NUMBER = sys.maxsize
_CULL_LIMIT = 2  # evictions per write; 10 can empty a small cache (measured)


def store_folder(cache_dir: Path, url: str) -> Path:
    """Return the folder of an API: recognisable by its host, unique by a hash of the whole URL."""
    host = re.sub(r"[^a-z0-9.-]", "_", urlsplit(url).netloc)
    return cache_dir / f"{host}-{hashlib.sha256(url.encode()).hexdigest()[:10]}"


def open_store(folder: Path, size_limit_bytes: int, clock: Clock) -> "Store":
    """Open the store in a folder, which is created if it is missing.

    Raises `StoreUnusable` if the folder cannot be created or made private to this user, or if its
    path contains a variable, but not if the disk is full or read-only: see `Store.failure`.
    """
    if os.path.expandvars(folder) != str(folder):  # diskcache would expand the variable
        raise StoreUnusable(f"The cache folder {folder} contains a variable: give its full path.")
    try:
        make_private_folder(folder)
    except OSError as error:
        if error.errno not in TRANSIENT_ERRNOS:
            raise StoreUnusable(
                f"The cache folder {folder} cannot be used ({error.strerror}): "
                "choose another cache-dir."
            ) from error
    return Store(folder, size_limit_bytes, clock)


class Store:
    """The PDFs, listings, records and verdicts of one tenant. Created by `open_store`.

    It has more than 20 methods because it reads and writes five kinds of values.
    """

    def __init__(self, folder: Path, size_limit_bytes: int, clock: Clock) -> None:
        self.folder = folder
        self._pdfs = DiskCache(
            folder,
            "pdf",
            clock,
            size_limit=size_limit_bytes,
            eviction_policy="least-recently-stored",
            cull_limit=_CULL_LIMIT,
            disk_min_file_size=_INLINE_BYTES,
        )
        self._verified_files = VerifiedFiles(folder, clock)
        self._meta = Metadata(folder, clock)

    @property
    def failure(self) -> str | None:
        """The reason why the store cannot be used at present, in words, or None."""
        return self._pdfs.failure or self._meta.failure

    def close(self) -> None:
        """Write the waiting values, and close the connections of the calling thread."""
        self._meta.close()
        self._pdfs.close()

    # Listings.

    def namespaces(self) -> tuple[str, ...]:
        """Return the last good list of namespaces, or an empty one."""
        namespaces = encoding.namespaces_from(self._meta.load(_NAMESPACES_KEY))
        self._meta.note_list(_NAMESPACES_KEY, namespaces or None)
        return namespaces

    def save_namespaces(self, namespaces: tuple[str, ...]) -> None:
        """Replace the list of namespaces on disk, unless it is the same."""
        self._meta.save_list(_NAMESPACES_KEY, namespaces)

    def has_saved_namespaces(self, namespaces: tuple[str, ...]) -> bool:
        """Return whether this list of namespaces is on disk."""
        return self._meta.has_list(_NAMESPACES_KEY, namespaces)

    def listing(self, namespace: str) -> Listing | None:
        """Return the last good listing of a namespace, or None."""
        key = _listing_key(namespace)
        listing = encoding.listing_from(namespace, self._meta.load(key))
        self._meta.note_list(key, listing)
        return listing

    def save_listing(self, namespace: str, listing: Listing) -> None:
        """Replace the listing of a namespace on disk, unless it is the same."""
        self._meta.save_list(_listing_key(namespace), listing)

    def has_saved_listing(self, namespace: str, listing: Listing) -> bool:
        """Return whether this listing is on disk."""
        return self._meta.has_list(_listing_key(namespace), listing)

    # Records.

    def record(self, invoice: Invoice) -> Record | None:
        """Return the record of an invoice, or None."""
        return encoding.record_from(self._meta.load(_record_key(invoice)))

    def records(self, invoices: Collection[Invoice]) -> dict[Invoice, Record]:
        """Return the records of those invoices that have one."""
        # Looking up a hundred thousand keys that do not exist would take seconds.
        keys = self._meta.keys(at_most=len(invoices))
        if keys is not None:
            invoices = [invoice for invoice in invoices if _record_key(invoice) in keys]
        found = {invoice: self.record(invoice) for invoice in invoices}
        return {invoice: record for invoice, record in found.items() if record is not None}

    def save_records(self, records: Mapping[Invoice, Record]) -> None:
        """Replace the records of these invoices."""
        self._meta.save(_record_values(records))

    def add_records(self, records: Mapping[Invoice, Record]) -> None:
        """Save the records of those invoices that have none yet."""
        self._meta.save_new(_record_values(records))

    # Verdicts.

    def fingerprint_key(self, proposed: bytes) -> bytes:
        """Return the secret key of fingerprints; a store without one saves `proposed`."""
        self._meta.save_new({_FINGERPRINT_KEY: proposed.hex()})
        stored = self._meta.load_kept(_FINGERPRINT_KEY)
        return bytes.fromhex(stored) if isinstance(stored, str) else proposed

    def verdict(self, key: AccessKey) -> str | None:
        """Return the verdict that was last saved for this key, or None."""
        stored = self._meta.load_kept(_verdict_key(key))
        return stored if isinstance(stored, str) else None

    def save_verdicts(self, verdicts: Mapping[AccessKey, str]) -> None:
        """Save the verdicts of the API on kinds of requests."""
        self._meta.save_kept({_verdict_key(key): verdict for key, verdict in verdicts.items()})

    # PDFs.

    def pdf(self, facts: StoredContent) -> bytes | None:
        """Return the PDF that `facts` describes, verified; None if it is missing or corrupt."""
        return _of_size(facts, self._verified_files.read(facts.sha256) or self._verified_pdf(facts))

    def digests(self) -> set[str] | None:
        """Return the SHA-256 of all PDFs on disk, or None if the disk cannot be read."""
        return self._pdfs.keys(at_most=_ANY_NUMBER)

    def save(self, invoice: Invoice, content: Content) -> None:
        """Save a PDF, then its record, which is saved even if the PDF cannot be."""
        facts = content.record.content
        if facts is not None:
            # A whole PDF is not replaced, because another thread may be reading its file.
            was_there = self._pdfs.add(facts.sha256, content.pdf) is False
            if was_there and self.pdf(facts) is None:
                self._pdfs.set({facts.sha256: content.pdf})
        self.save_records({invoice: content.record})

    def spill(self, pdf: bytes) -> SpilledPdf | None:
        """Write the bytes of a PDF to an unlinked file; returns None if that fails."""
        try:
            return spilled(pdf, self.folder)
        except OSError as error:
            log.warning("Open PDFs cannot be written to %s: %s", self.folder, error.strerror)
            return None

    def pdf_in_memory(self, facts: StoredContent) -> bytes | None:
        """Return the PDF that `facts` describes, verified, if that needs no disk; else None."""
        return _of_size(facts, self._verified_files.read_without_waiting(facts.sha256))

    def _verified_pdf(self, facts: StoredContent) -> bytes | None:
        """Read a PDF and verify it; if it is in a file, note that."""
        found = self._pdfs.get(facts.sha256, as_file=True)
        if not isinstance(found, io.BufferedReader):
            return found if isinstance(found, bytes) and _is_pdf_of(facts.sha256, found) else None
        with found:
            try:
                status = os.fstat(found.fileno())
                pdf = found.read() if status.st_size == facts.size_bytes else b""
            except OSError:
                return None
        if not _is_pdf_of(facts.sha256, pdf):
            return None
        self._verified_files.note(facts.sha256, found.name, status)
        return pdf

    # Maintenance, which is possible while mounts use the store.

    def checkpoint(self) -> None:
        """Move SQLite's journals into the databases: see `DiskCache.checkpoint`."""
        self._pdfs.checkpoint()
        self._meta.checkpoint()

    def remove_corrupt(self, *, is_dry: bool) -> tuple[int, int] | None:
        """Check every PDF against its SHA-256, and remove corrupt ones, unless `is_dry`.

        Returns how many are whole and how many were corrupt; None if they cannot be read or
        removed. A PDF that is removed is downloaded again when its invoice is opened.
        """
        found = self._pdfs.validate(_is_pdf_of)
        if found is None:
            return None
        corrupt = [key for key, is_whole in found.items() if not is_whole]
        if not is_dry and not all(map(self._pdfs.remove, corrupt)):
            return None
        return len(found) - len(corrupt), len(corrupt)

    def clear(self, *, everything: bool) -> bool:
        """Remove all PDFs, and, if `everything`, also listings, records and verdicts.

        Returns False if the cache is unavailable.
        """
        return self._pdfs.clear() and (not everything or self._meta.clear())


def _of_size(facts: StoredContent, pdf: bytes | None) -> bytes | None:
    return pdf if pdf is not None and len(pdf) == facts.size_bytes else None


def _is_pdf_of(sha256: str, pdf: object) -> bool:
    if not isinstance(pdf, bytes) or not is_whole_pdf(pdf):  # earlier versions saved partial PDFs
        return False
    return hashlib.sha256(pdf).hexdigest() == sha256


def _listing_key(namespace: str) -> str:
    return f"listing/{directory_name(namespace) or file_name(namespace)}"


def _verdict_key(key: AccessKey) -> str:
    folder = directory_name(key.namespace) or file_name(key.namespace)
    return f"access/{key.fingerprint}/{key.kind}/{folder}"


def _record_key(invoice: Invoice) -> str:
    return f"record/{invoice.key}"


def _record_values(records: Mapping[Invoice, Record]) -> dict[str, object]:
    return {
        _record_key(invoice): encoding.record_fields(record) for invoice, record in records.items()
    }
