"""The settings of one mount: frozen, validated once at the edge, every unit in its name."""

import enum
import os
from dataclasses import dataclass, field
from pathlib import Path

from invoicefs.errors import UsageError
from invoicefs.folders import default_cache_dir
from invoicefs.model import STATUSES
from invoicefs.names import can_be_namespace
from invoicefs.units import GIB, KIB, LONGEST_S, MIB

_MOST_PARALLEL = 1000  # each takes a thread, and a place for a connection before the first call
_MOST_READ_AHEAD = 1000  # each is held in memory until it is opened


class Fetch(enum.StrEnum):
    """When an invoice is downloaded."""

    ON_OPEN = "on-open"
    ON_STAT = "on-stat"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a mount needs to know, except the credential.

    Raises `UsageError` for values that cannot be meant.
    """

    url: str
    """Base URL of the API, normalised by `normalise_url`: no trailing slash, no ``/api``."""

    namespaces: tuple[str, ...] = ()
    """Show these namespaces and no others; empty shows all that the API lists."""

    statuses: frozenset[str] = frozenset()
    """Show only invoices in these states, in lower case; empty shows all."""

    cache_dir: Path = field(default_factory=default_cache_dir)
    """Parent of the stores, one folder per URL below it."""

    cache_size_bytes: int = GIB
    """PDFs beyond this are evicted, the longest stored ones first."""

    fetch: Fetch = Fetch.ON_OPEN
    """Whether ``stat`` waits for the download too, so that every size is exact when it is told."""

    parallel: int = 8
    """The most API calls at one time; background work leaves two of them free."""

    read_ahead: int = 16
    """How many invoices are fetched ahead of somebody who opens one after the other; 0 is none."""

    timeout_s: float = 30.0
    """Hard deadline of every operation, everything included."""

    max_wait_s: float = 5.0
    """The part of the deadline that may be spent waiting to try a call again."""

    list_ttl_s: float = 60.0
    """How long a listing is used before it is asked for again."""

    active_ttl_s: float = 300.0
    """How long the content of an invoice that is not final is used."""

    max_pdf_size_bytes: int = 16 * MIB
    """The largest PDF that can be opened, and the size shown before the first open."""

    uid: int = field(default_factory=os.getuid)
    gid: int = field(default_factory=os.getgid)
    """Owner and group of everything in the mount."""

    umask: int = 0o000
    """Mode bits taken away from 0755 (directories) and 0444 (files)."""

    allow_other: bool = False
    """Let other users look into the mount."""

    xattr: bool = False
    """Show what is known of an invoice as extended attributes."""

    def __post_init__(self) -> None:
        if not 1 <= self.parallel <= _MOST_PARALLEL:
            raise UsageError(f"--parallel must be from 1 to {_MOST_PARALLEL}.")
        if not 0 <= self.read_ahead <= _MOST_READ_AHEAD:
            raise UsageError(f"--read-ahead must be from 0 to {_MOST_READ_AHEAD}.")
        if not 0 < self.timeout_s <= LONGEST_S:
            raise UsageError("--timeout must be longer than 0 s and not longer than a year.")
        if not 0 <= self.max_wait_s <= self.timeout_s:
            raise UsageError("--max-wait is a part of --timeout and cannot be longer.")
        if self.max_pdf_size_bytes < KIB:
            raise UsageError("--max-pdf-size must be at least 1KiB.")
        if self.cache_size_bytes < MIB:
            raise UsageError("--cache-size must be at least 1MiB.")
        if not 0 <= self.umask <= 0o777:
            raise UsageError("--umask must be an octal number from 000 to 777.")
        if self.fetch is Fetch.ON_STAT and self.active_ttl_s == 0:
            raise UsageError(
                "--fetch on-stat needs an --active-ttl: without it an active invoice is outdated"
                " as soon as its size is known."
            )
        for namespace in self.namespaces:
            if not can_be_namespace(namespace):
                raise UsageError(
                    f"--namespace {namespace!r} is not a namespace: "
                    "lower-case letters, digits and inner dashes, at most 63."
                )

    @property
    def file_mode(self) -> int:
        """Permission bits of files."""
        return 0o444 & ~self.umask

    @property
    def directory_mode(self) -> int:
        """Permission bits of directories; writable, so that a copy can be deleted by its owner."""
        return 0o755 & ~self.umask


def parse_status(text: str) -> str:
    """The state named by ``paid``, ``PAID`` or the vendor's ``STATUS_PAID``."""
    status = text.strip().lower().removeprefix("status_")
    if status not in STATUSES:
        raise UsageError(f"{text!r} is not a status: the API has {', '.join(STATUSES)}.")
    return status
