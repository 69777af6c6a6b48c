"""What is wrong with a mount, for monitoring: its credential, its requests, or its cache.

A PDF that the API does not have (404), a rate limit (429) and an invoice that is too large are no
problems of the mount. Neither is a listing that has always been forbidden: a credential may be
allowed only to download.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from invoicefs.errors import Denied, InvoicefsError, NoResponse, NotFound, Unauthenticated
from invoicefs.library.results import ListingState
from invoicefs.mount.activity import FailedRequest

_REQUESTED: Final = {"namespaces": "the namespaces", "invoices": "a listing", "pdf": "a PDF"}


@dataclass(frozen=True, slots=True)
class Problem:
    """What does not work, and why."""

    kind: Literal["credential", "requests", "cache"]
    words: str


def problems(
    failed: Mapping[str, FailedRequest], listings: ListingState, cache_failure: str | None
) -> Iterator[Problem]:
    """Yield the problems of a mount.

    `failed` has the kinds whose last request has failed. A refused credential comes first, and only
    once, whatever else was refused.
    """
    if refusal := next(_refusals(failed, listings), None):
        yield Problem("credential", refusal)
    for kind, request in failed.items():
        if issubclass(request.error, NoResponse):
            words = f"the last request for {_REQUESTED.get(kind, kind)} failed: {request.words}"
            yield Problem("requests", words)
    if "invoices" not in failed and (outdated := _outdated(listings)):
        namespace, error = outdated
        yield Problem("requests", f"the last listing of {namespace} failed: {error}")
    if cache_failure:
        yield Problem("cache", f"the cache cannot be used: {cache_failure}")


def _refusals(failed: Mapping[str, FailedRequest], listings: ListingState) -> Iterator[str]:
    for request in failed.values():
        if issubclass(request.error, Unauthenticated):
            yield f"the API refuses the credential: {request.words}"
    if _is_forbidden(listings.namespaces_failure):
        yield f"the namespaces may no longer be listed: {listings.namespaces_failure}"
    for namespace, error in listings.failures.items():
        if _is_forbidden(error):
            yield f"{namespace} may no longer be listed: {error}"


def _is_forbidden(error: InvoicefsError | None) -> bool:
    """Return whether it is a 403; after a 401 the credential may have been renewed since."""
    return isinstance(error, Denied) and not isinstance(error, Unauthenticated)


def _outdated(listings: ListingState) -> tuple[str, InvoicefsError] | None:
    """Return a namespace of which the last good listing is shown, with the error, or None."""
    found = listings.failures.items()
    return next((item for item in found if isinstance(item[1], NoResponse | NotFound)), None)
