"""The first request of a mount, which decides whether to mount and which warnings to print."""

from collections.abc import Callable

from invoicefs.credentials.load import Credentials, refusal
from invoicefs.errors import (
    InvoicefsError,
    Misdirected,
    NoResponse,
    TimedOut,
    Unauthenticated,
    Unreachable,
    UntrustedServer,
    UnusableResponse,
    UserError,
)
from invoicefs.library.library import Library
from invoicefs.settings import Settings
from invoicefs.urls import URL_EXAMPLE

Warn = Callable[[str], None]


def check_tenant(
    library: Library, settings: Settings, credentials: Credentials, warn: Warn
) -> None:
    """List the namespaces; raises `UserError` for fatal failures, and warns of others."""
    try:
        found = library.list_namespaces()
    except Unauthenticated as error:
        raise refusal(settings.url, credentials, error) from error
    except InvoicefsError as error:
        _refuse_or_warn(error, library, settings.url, warn)
        return
    for namespace in settings.namespaces:
        if namespace not in found:
            warn(f"The tenant lists no namespace {namespace}: check the spelling.")


def _refuse_or_warn(error: InvoicefsError, library: Library, url: str, warn: Warn) -> None:
    """Raise `UserError` if a failed first request prevents mounting; otherwise warn of it."""
    if isinstance(error, UntrustedServer):
        raise UserError(f"{url} cannot be trusted: {error}.") from error
    if isinstance(error, Misdirected):
        raise UserError(
            f"{url} does not respond like the API ({error}): the URL should be like {URL_EXAMPLE}."
        ) from error
    is_unusable = isinstance(error, (Unreachable, UnusableResponse)) or type(error) is TimedOut
    if is_unusable and not library.is_known:
        raise UserError(f"{url} cannot be used: {error}. Check the URL and the network.") from error
    if isinstance(error, NoResponse):
        warn(f"{url} cannot be used now ({error}): cached listings and invoices are shown.")
    else:
        warn(f"The namespaces cannot be listed now: {error}. Open invoices by their full path.")
