"""The inventory of a tenant that is not mounted, with the cache that its mounts use."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Any

from invoicefs.clock import SystemClock
from invoicefs.credentials.load import Credentials, refusal
from invoicefs.errors import Denied, InvoicefsError, Unauthenticated, UserError
from invoicefs.folders import NewFolder
from invoicefs.library.inventory import Inventory
from invoicefs.mount import inventory_requests
from invoicefs.mount.activity import RequestCounters
from invoicefs.mount.first_request import connect
from invoicefs.mount.tenant import open_tenant
from invoicefs.settings import Settings
from invoicefs.store.store import store_folder


@contextmanager
def responder(
    settings: Settings, credentials: Credentials, warn: Callable[[str], None]
) -> Iterator[Callable[[Mapping[str, Any]], Mapping[str, Any]]]:
    """Provide a function that responds to the requests of `inventory_requests`.

    The function raises `UserError` if a request fails. No new cache is left if the tenant cannot be
    listed. Raises `UserError` if the credential is refused or the cache cannot be used.
    """
    new_store = NewFolder(store_folder(settings.cache_dir, settings.url))
    with ExitStack() as stack:
        stack.callback(new_store.remove_if_new)
        api = stack.enter_context(closing(connect(settings, credentials, RequestCounters())))
        tenant = open_tenant(stack, settings, credentials, api, SystemClock())
        if tenant.store.failure:
            warn(f"The cache {tenant.store.folder} cannot be used now: {tenant.store.failure}.")
        try:
            tenant.library.list_namespaces()
        except Unauthenticated as error:
            raise refusal(settings.url, credentials, error) from error
        except Denied:
            pass  # a namespace that is named may be listed all the same
        except InvoicefsError as error:
            if not tenant.library.is_known:
                raise UserError(f"{settings.url} cannot be listed: {error}.") from error
        new_store.keep()
        yield partial(_respond, tenant.library.inventory)


def _respond(found: Inventory, request: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return inventory_requests.respond(found, request)
    except InvoicefsError as error:
        raise UserError(str(error)) from error
