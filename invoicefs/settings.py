"""The settings of a mount: immutable, and validated once; units are in their names.

Errors name a setting like ``max-wait``; the command line adds the leading dashes.
"""

import enum
import os
from dataclasses import dataclass, field
from pathlib import Path

from invoicefs.errors import InvalidSetting, UsageError
from invoicefs.folders import default_cache_dir
from invoicefs.model import STATUSES
from invoicefs.names import can_be_namespace
from invoicefs.units import GIB, KIB, MAX_DURATION_S, MIB

_MAX_PARALLEL = 1000  # each takes a thread, and a slot in the connection pool from the start
_MAX_READ_AHEAD = 1000  # each invoice is kept in memory until it is opened


class Fetch(enum.StrEnum):
    """When an invoice is downloaded."""

    ON_OPEN = "on-open"
    ON_STAT = "on-stat"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a mount needs to know, except the credential.

    Raises `InvalidSetting` for an invalid value.
    """

    url: str
    """Base URL of the API, normalised by `normalise_url`: no trailing slash, no ``/api``."""

    namespaces: tuple[str, ...] = ()
    """The namespaces to show; if empty, all that the API lists."""

    statuses: frozenset[str] = frozenset()
    """The statuses of the invoices to show, in lower case; if empty, all."""

    cache_dir: Path = field(default_factory=default_cache_dir)
    """Parent folder of the disk caches, of which there is one per URL."""

    cache_size_bytes: int = GIB
    """Maximum total size of cached PDFs; the least recently stored are evicted first."""

    fetch: Fetch = Fetch.ON_OPEN
    """When invoices are downloaded; with on-stat, ``stat`` waits for that."""

    parallel: int = 8
    """Maximum number of concurrent requests; two of them are reserved for the foreground."""

    read_ahead: int = 16
    """Maximum number of invoices that are downloaded ahead of sequential access; 0 disables it."""

    timeout_s: float = 30.0
    """Maximum duration of every operation, including everything it does."""

    max_wait_s: float = 5.0
    """Maximum time that an operation spends waiting for retries; part of `timeout_s`."""

    list_ttl_s: float = 60.0
    """How long a listing is used before it is refreshed."""

    active_ttl_s: float = 300.0
    """How long the content of a draft is used before it is downloaded again."""

    max_pdf_size_bytes: int = 16 * MIB
    """The largest PDF that can be opened, and the upper bound that is shown as a size."""

    uid: int = field(default_factory=os.getuid)
    gid: int = field(default_factory=os.getgid)
    """Owner and group of everything in the mount."""

    umask: int = 0o000
    """Permission bits removed from 0755 (directories) and 0444 (files)."""

    allow_other: bool = False
    """Whether other users can access the mount."""

    xattr: bool = False
    """Whether files have status, period, amount and SHA-256 as extended attributes."""

    def __post_init__(self) -> None:
        if not 1 <= self.parallel <= _MAX_PARALLEL:
            raise InvalidSetting(f"parallel must be from 1 to {_MAX_PARALLEL}.")
        if not 0 <= self.read_ahead <= _MAX_READ_AHEAD:
            raise InvalidSetting(f"read-ahead must be from 0 to {_MAX_READ_AHEAD}.")
        if not 0 < self.timeout_s <= MAX_DURATION_S:
            raise InvalidSetting("timeout must be more than 0 s and at most a year.")
        if not 0 <= self.max_wait_s <= self.timeout_s:
            raise InvalidSetting("max-wait must not be longer than the timeout.")
        if self.max_pdf_size_bytes < KIB:
            raise InvalidSetting("max-pdf-size must be at least 1KiB.")
        if self.cache_size_bytes < MIB:
            raise InvalidSetting("cache-size must be at least 1MiB.")
        if not 0 <= self.umask <= 0o777:
            raise InvalidSetting("umask must be an octal number from 000 to 777.")
        if self.fetch is Fetch.ON_STAT and self.active_ttl_s == 0:
            raise InvalidSetting(
                "fetch on-stat needs an active-ttl of more than 0 s: otherwise the size of a draft"
                " is out of date as soon as it is known."
            )
        for namespace in self.namespaces:
            if not can_be_namespace(namespace):
                raise InvalidSetting(
                    f"namespace {namespace!r} is invalid: a name has at most 63 lower-case letters,"
                    " digits and dashes, with no dash at either end."
                )

    @property
    def file_mode(self) -> int:
        """The permission bits of files."""
        return 0o444 & ~self.umask

    @property
    def directory_mode(self) -> int:
        """The permission bits of directories; writable, so that copies of them can be deleted."""
        return 0o755 & ~self.umask


def parse_status(text: str) -> str:
    """Return the status that is written as ``paid``, ``PAID`` or the vendor's ``STATUS_PAID``."""
    status = text.strip().lower().removeprefix("status_")
    if status not in STATUSES:
        raise UsageError(f"{text!r} is not a status: the API has {', '.join(STATUSES)}.")
    return status
