"""Finds the base URL of the API in pasted text, and the origin of a URL."""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from invoicefs.errors import UsageError

URL_EXAMPLE = "https://TENANT.console.ves.volterra.io"

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_HOST = re.compile(r"(?!-)[\w-]+(\.[\w-]+)*\.?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_TENANT_DOMAIN = "console.ves.volterra.io"


def normalise_url(pasted: str, *, may_be_unencrypted: bool = False) -> str:
    """Return the base URL of the API from a URL as people paste it.

    It may lack a scheme, or have a trailing slash, ``/api``, or the path of a console page; the
    path prefix of a gateway is kept. Raises `UsageError` if it is invalid or names no tenant, and
    for ``http://`` to another machine unless `may_be_unencrypted`.
    """
    text = pasted.strip()
    shown = re.split("[?#]", pasted)[0].rpartition("@")[2]  # the rest may be a secret
    has_scheme = _SCHEME.match(text) is not None
    parts = _split(text if has_scheme else f"https://{text}", shown)
    if "@" in parts.netloc:
        raise UsageError("The URL has a user name or password: remove it; the token is enough.")
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
        _ = parts.port  # the port is parsed on access
    except ValueError:
        raise UsageError(f"{shown!r} is not a URL: write it like {URL_EXAMPLE}.") from None
    return parts


def _is_host(host: str) -> bool:
    # If the scheme is written twice, the second one looks like a host.
    return ":" in host or (_HOST.fullmatch(host) is not None and host not in ("http", "https"))


def origin(url: str) -> tuple[str, str | None, int]:
    """Return scheme, host and effective port of an http(s) URL, for comparison (RFC 6454).

    Raises `ValueError` for an invalid port.
    """
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is that of the loopback interface."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _prefix(path: str) -> str:
    """Return the path without ``/api`` or ``/api/web/...`` at its end, and without a console page.

    Console pages are below ``/web/`` of the tenant's host.
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
