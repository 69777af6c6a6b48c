"""The first request of a mount: whether mounting makes sense, and what to warn of."""

from collections.abc import Callable

from invoicefs.credentials.load import Credentials, refusal
from invoicefs.errors import (
    InvoicefsError,
    Misdirected,
    NoAnswer,
    TimedOut,
    Unauthenticated,
    Unreachable,
    UntrustedServer,
    UnusableAnswer,
    UserError,
)
from invoicefs.library.library import Library
from invoicefs.settings import Settings
from invoicefs.urls import URL_EXAMPLE

Warn = Callable[[str], None]


def check_tenant(
    library: Library, settings: Settings, credentials: Credentials, warn: Warn
) -> None:
    """List the namespaces; raises `UserError` if mounting makes no sense, otherwise warns."""
    try:
        found = library.first_contact()
    except Unauthenticated as error:
        raise refusal(settings.url, credentials, error) from error
    except InvoicefsError as error:
        _judge(error, library, settings.url, warn)
        return
    for namespace in settings.namespaces:
        if namespace not in found:
            warn(f"The tenant lists no namespace {namespace}: check the spelling.")


def _judge(error: InvoicefsError, library: Library, url: str, warn: Warn) -> None:
    """Decide whether a failed first request is a reason not to mount."""
    if isinstance(error, UntrustedServer):
        raise UserError(f"{url} cannot be trusted: {error}.") from error
    if isinstance(error, Misdirected):
        raise UserError(
            f"{url} does not answer like the API ({error}): is it {URL_EXAMPLE}?"
        ) from error
    is_away = isinstance(error, (Unreachable, UnusableAnswer)) or type(error) is TimedOut
    if is_away and not library.is_known:
        raise UserError(f"{url} cannot be used: {error}. Check the URL and the network.") from error
    if isinstance(error, NoAnswer):
        warn(f"{url} cannot be reached now ({error}): cached listings and invoices are shown.")
    else:
        warn(f"The namespaces cannot be listed now: {error}. Open invoices by their full path.")
