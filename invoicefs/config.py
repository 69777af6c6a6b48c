"""The settings of one mount: frozen, validated once at the edge, every unit in its name."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from invoicefs.errors import UsageError
from invoicefs.names import can_be_namespace

URL_EXAMPLE = "https://TENANT.console.ves.volterra.io"

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmg])(?:i?b)?|b)?", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "k": KIB, "m": MIB, "g": GIB}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)?", re.IGNORECASE)
_DURATION_UNITS_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1", re.IGNORECASE)
_TENANT_DOMAIN = "console.ves.volterra.io"


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

    parallel: int = 8
    """The most API calls at one time; background work leaves two of them free."""

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

    def __post_init__(self) -> None:
        if self.parallel < 1:
            raise UsageError("--parallel must be at least 1.")
        if self.max_wait_s > self.timeout_s:
            raise UsageError("--max-wait is a part of --timeout and cannot be longer.")
        if self.timeout_s <= 0:
            raise UsageError("--timeout must be longer than 0 s.")
        if self.max_pdf_size_bytes < KIB:
            raise UsageError("--max-pdf-size must be at least 1KiB.")
        if self.cache_size_bytes < MIB:
            raise UsageError("--cache-size must be at least 1MiB.")
        if not 0 <= self.umask <= 0o777:
            raise UsageError("--umask must be an octal number from 000 to 777.")
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
    """``$XDG_CACHE_HOME/invoicefs``, or ``/var/cache/invoicefs`` for a service without HOME.

    The XDG base directory specification lets a relative path count as not set.
    """
    cache_home = os.environ.get("XDG_CACHE_HOME", "")
    if Path(cache_home).is_absolute():
        return Path(cache_home) / "invoicefs"
    if os.environ.get("HOME"):
        return Path(os.environ["HOME"]) / ".cache" / "invoicefs"
    return Path("/var/cache/invoicefs")


def parse_size_bytes(text: str) -> int:
    """Bytes of a size like ``16MiB``, ``64k`` or ``1.5G``; every unit is a power of 1024."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"{text!r} is not a size: write a number and KiB, MiB or GiB, as in 16MiB."
        )
    return int(float(match[1]) * _SIZE_UNITS[(match[2] or "").lower()])


def format_size_bytes(size_bytes: int) -> str:
    """The shortest text that `parse_size_bytes` maps back to this size.

    >>> format_size_bytes(16 * MIB)
    '16MiB'
    """
    for unit, factor in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)


def parse_duration_s(text: str) -> float:
    """Seconds of a duration like ``30``, ``90s``, ``5m`` or ``1h``."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a duration: write a number and s, m or h, as in 5m.")
    return float(match[1]) * _DURATION_UNITS_S[(match[2] or "").lower()]


def parse_octal(text: str) -> int:
    """The number that ``022`` or ``0o22`` stands for."""
    try:
        return int(text, 8)
    except ValueError:
        raise UsageError(f"{text!r} is not an octal number like 022.") from None


def parse_status(text: str) -> str:
    """The state named by ``paid``, ``PAID`` or the vendor's ``STATUS_PAID``."""
    status = text.strip().lower().removeprefix("status_")
    if not status.isidentifier():
        raise UsageError(f"{text!r} is not a status: try paid, issued, pending or overdue.")
    return status


def normalise_url(pasted: str) -> str:
    """The base URL of the API from what people paste.

    With or without scheme, trailing slash, ``/api``, or the path of a console page; a path that
    a gateway puts in front is kept. Raises `UsageError` where no tenant can be made out.
    """
    text = pasted.strip()
    parts = _split(text if "://" in text else f"https://{text}")
    host = (parts.hostname or "").lower()
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError(f"{pasted!r} is not a URL: write it like {URL_EXAMPLE}.")
    if parts.username is not None:
        raise UsageError(
            "The URL holds a user name or password: leave it out, the token is enough."
        )
    if host == _TENANT_DOMAIN or ("://" not in text and "." not in host and not _is_loopback(host)):
        raise UsageError(f"{pasted!r} names no tenant: write it like {URL_EXAMPLE}.")
    if parts.scheme == "http" and not _is_loopback(host):
        raise UsageError(
            f"{pasted!r} would send the token unencrypted: write https:// instead of http://."
        )
    address = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{address}{port}{_prefix(parts.path)}"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # is parsed on access
    except ValueError:
        raise UsageError(f"{url!r} is not a URL: write it like {URL_EXAMPLE}.") from None
    return parts


def _is_loopback(host: str) -> bool:
    return _LOOPBACK.fullmatch(host) is not None


def _prefix(path: str) -> str:
    """The path less ``/api`` or ``/api/web/...`` at its end, and less a console page.

    Console pages live below ``/web/`` of the tenant's host.
    """
    segments = [segment for segment in path.split("/") if segment]
    if segments[:1] == ["web"]:
        return ""
    for index, segment in enumerate(segments):
        if segment == "api" and segments[index + 1 : index + 2] in ([], ["web"]):
            segments = segments[:index]
            break
    return "".join(f"/{segment}" for segment in segments)
