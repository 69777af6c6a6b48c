"""Requests to the API, parsed from a request line and headers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Self
from urllib.parse import parse_qsl, unquote


class Endpoint(Enum):
    """The endpoints of the API."""

    NAMESPACES = "namespaces"
    INVOICES = "invoices"
    PDF = "pdf"


_NAMESPACES_PATH = "/api/web/namespaces"
_NAMESPACE_PATH = f"{_NAMESPACES_PATH}/(?P<namespace>[^/]+)"
_PATHS = {
    Endpoint.NAMESPACES: re.compile(_NAMESPACES_PATH),
    Endpoint.INVOICES: re.compile(f"{_NAMESPACE_PATH}/usage/invoices/custom_list"),
    Endpoint.PDF: re.compile(f"{_NAMESPACE_PATH}/usage/invoice_pdf"),
}


@dataclass(frozen=True)
class Call:
    """A request, as it arrived.

    `target` is the request target as it was sent; `path` is its path without the prefix of the
    sandbox, still percent-encoded. The names of `headers` are in lower case, and they include
    ``authorization``. `endpoint` is None if the API has no such path. `limit` is None if the
    request has none. `client` is the common name in the client certificate, or None. `status` is
    that of the response, None until it begins.
    """

    method: str
    target: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    endpoint: Endpoint | None = None
    namespace: str | None = None
    name: str | None = None
    limit: int | None = None
    client: str | None = None
    status: int | None = None

    @classmethod
    def parse(
        cls,
        method: str,
        target: str,
        headers: Mapping[str, str],
        path_prefix: str = "",
        client: str | None = None,
    ) -> Self:
        """Parse a request; raises `ValueError` for invalid text and an invalid limit."""
        full_path, _, raw_query = target.partition("?")
        path = full_path.removeprefix(path_prefix)
        query = dict(parse_qsl(raw_query, keep_blank_values=True, errors="surrogatepass"))
        endpoint, namespace = _route(path) if full_path.startswith(path_prefix) else (None, None)
        return cls(
            method=method,
            target=target,
            path=path,
            query=query,
            headers={name.lower(): value for name, value in headers.items()},
            endpoint=endpoint,
            namespace=namespace,
            name=query.get("name", "") if endpoint is Endpoint.PDF else None,
            limit=_limit(query) if endpoint is Endpoint.INVOICES else None,
            client=client,
        )

    def matches(self, endpoint: Endpoint | None, namespace: str | None, name: str | None) -> bool:
        """Return whether it is for this endpoint, namespace and invoice; None matches any."""
        return (
            endpoint in (None, self.endpoint)
            and namespace in (None, self.namespace)
            and name in (None, self.name)
        )


def _route(path: str) -> tuple[Endpoint | None, str | None]:
    for endpoint, pattern in _PATHS.items():
        if match := pattern.fullmatch(path):
            quoted = match.groupdict().get("namespace")
            return endpoint, quoted and unquote(quoted, errors="surrogatepass")
    return None, None


def _limit(query: Mapping[str, str]) -> int | None:
    limit = int(query.get("limit") or 0)
    if limit < 0:
        raise ValueError("the limit must not be negative")
    return limit or None  # in proto3, 0 means not set
