"""The settings of one mount: frozen, validated once at the edge, every unit in its name."""

import enum
import ipaddress
import os
import pwd
import re
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from invoicefs.errors import UsageError
from invoicefs.model import STATUSES
from invoicefs.names import can_be_namespace

URL_EXAMPLE = "https://TENANT.console.ves.volterra.io"

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmg])(?:i?b)?|b)?", re.IGNORECASE | re.ASCII)
_SIZE_UNITS = {"": 1, "k": KIB, "m": MIB, "g": GIB}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)?", re.IGNORECASE | re.ASCII)
_DURATION_UNITS_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_OCTAL = re.compile(r"(?:0o)?[0-7]{1,4}", re.ASCII)
SERVICE_CACHE_DIR = Path("/var/cache/invoicefs")  # of who has no home, as at boot
_LARGEST_BYTES = 2**63 - 1  # of an off_t
_MOST_PARALLEL = 1000  # each takes a thread, and a place for a connection before the first call
_MOST_READ_AHEAD = 1000  # each is held in memory until it is opened
_LONGEST_S = 365 * 86_400.0  # locks cannot be waited for much longer
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_HOST = re.compile(r"(?!-)[\w-]+(\.[\w-]+)*\.?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_TENANT_DOMAIN = "console.ves.volterra.io"


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

    cache_dir: Path = field(default_factory=lambda: default_cache_dir())
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
        if not 0 < self.timeout_s <= _LONGEST_S:
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


def default_cache_dir() -> Path:
    """``$XDG_CACHE_HOME/invoicefs``, or ``/var/cache/invoicefs`` for who has no home.

    The XDG base directory specification lets a relative path count as not set.
    """
    cache_home = os.environ.get("XDG_CACHE_HOME", "")
    if Path(cache_home).is_absolute():
        return Path(cache_home) / "invoicefs"
    home = home_folder()
    return home / ".cache" / "invoicefs" if home else SERVICE_CACHE_DIR


def home_folder() -> Path | None:
    """The home of the user: ``$HOME``, or that of the user database; None where there is neither.

    mount(8) takes HOME away from what it runs for an ordinary user. Root without HOME is no user
    but a service, as at boot, and has none.
    """
    if Path(home := os.environ.get("HOME", "")).is_absolute():
        return Path(home)
    if os.geteuid() == 0:
        return None
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:  # a user that is in no database, as in containers
        return None


def parse_size_bytes(text: str) -> int:
    """Bytes of a size like ``16MiB``, ``64k`` or ``1.5G``; every unit is a power of 1024."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"{text!r} is not a size: write a number and KiB, MiB or GiB, as in 16MiB."
        )
    number, unit = match.groups(default="")
    factor = _SIZE_UNITS[unit.lower()]
    size_bytes = Decimal(number) * factor
    if size_bytes > _LARGEST_BYTES:
        raise UsageError(f"{text!r} is not a size: it is more than any disk holds.")
    return int(size_bytes)


def format_size_bytes(size_bytes: int) -> str:
    """The text with the largest unit that `parse_size_bytes` maps back to this size.

    >>> format_size_bytes(16 * MIB)
    '16MiB'
    """
    for unit, factor in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)


def rounded_size(size_bytes: int) -> str:
    """A size for people, in the unit that suits it.

    >>> rounded_size(40_000_000)
    '38.1 MiB'
    """
    for unit, factor in (("TiB", 1024 * GIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} B"


def parse_duration_s(text: str) -> float:
    """Seconds of a duration like ``30``, ``90s``, ``5m`` or ``1h``."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a duration: write a number and s, m or h, as in 5m.")
    seconds = float(match[1]) * _DURATION_UNITS_S[(match[2] or "").lower()]
    if seconds > _LONGEST_S:
        raise UsageError(f"{text!r} is not a duration: it is longer than a year.")
    return seconds


def parse_octal(text: str) -> int:
    """The number that ``022`` or ``0o22`` stands for."""
    if _OCTAL.fullmatch(text) is None:
        raise UsageError(f"{text!r} is not an octal number like 022.")
    return int(text, 8)


def parse_status(text: str) -> str:
    """The state named by ``paid``, ``PAID`` or the vendor's ``STATUS_PAID``."""
    status = text.strip().lower().removeprefix("status_")
    if status not in STATUSES:
        raise UsageError(f"{text!r} is not a status: the API has {', '.join(STATUSES)}.")
    return status


def normalise_url(pasted: str, *, may_be_unencrypted: bool = False) -> str:
    """The base URL of the API from what people paste.

    With or without scheme, trailing slash, ``/api``, or the path of a console page; a path that
    a gateway puts in front is kept. Raises `UsageError` where no tenant can be made out, and for
    ``http://`` to another machine unless it `may_be_unencrypted`.
    """
    text = pasted.strip()
    shown = re.split("[?#]", pasted)[0].rpartition("@")[2]  # what is around may be a secret
    has_scheme = _SCHEME.match(text) is not None
    parts = _split(text if has_scheme else f"https://{text}", shown)
    if "@" in parts.netloc:
        raise UsageError(
            "The URL holds a user name or password: leave it out, the token is enough."
        )
    host = (parts.hostname or "").lower().removesuffix(".")
    if parts.scheme not in ("http", "https") or not _is_host(host) or parts.port == 0:
        raise UsageError(f"{shown!r} is not a URL: write it like {URL_EXAMPLE}.")
    is_single_word = not has_scheme and not any(mark in host for mark in ".:")
    if host == _TENANT_DOMAIN or (is_single_word and not is_loopback(host)):
        raise UsageError(f"{shown!r} names no tenant: write it like {URL_EXAMPLE}.")
    if parts.scheme == "http" and not (may_be_unencrypted or is_loopback(host)):
        raise UsageError(
            f"{shown!r} would send the token unencrypted: write https:// instead of http://, "
            "or give --insecure-http."
        )
    address = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{address}{port}{_prefix(parts.path)}"


def _split(url: str, shown: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # is parsed on access
    except ValueError:
        raise UsageError(f"{shown!r} is not a URL: write it like {URL_EXAMPLE}.") from None
    return parts


def _is_host(host: str) -> bool:
    # The scheme written twice makes a host of the second one.
    return ":" in host or (_HOST.fullmatch(host) is not None and host not in ("http", "https"))


def origin(url: str) -> tuple[str, str | None, int]:
    """Scheme, host and effective port of an http(s) URL, to be compared: see RFC 6454.

    Raises `ValueError` for a port that is none.
    """
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)


def is_loopback(host: str) -> bool:
    """Whether a host is the own machine, by its name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _prefix(path: str) -> str:
    """The path less ``/api`` or ``/api/web/...`` at its end, and less a console page.

    Console pages live below ``/web/`` of the tenant's host.
    """
    segments = [segment for segment in path.split("/") if segment]
    if segments[:1] == ["web"]:
        return ""
    for index, segment in enumerate(segments):
        if segment == "api" and segments[index + 1 : index + 2] == ["web"]:
            segments = segments[:index]
            break
    while segments[-1:] == ["api"]:
        segments.pop()
    return "".join(f"/{segment}" for segment in segments)
