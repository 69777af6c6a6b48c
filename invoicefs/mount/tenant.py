"""The library of a tenant, with the API, the store and the scheduler that it needs.

The packages `api`, `store` and `library` do not import each other. This module connects them; the
API comes from `first_request`.
"""

from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import NamedTuple

from invoicefs.clock import Clock
from invoicefs.credentials.load import Credentials
from invoicefs.library.access import Access
from invoicefs.library.library import Library
from invoicefs.mount.first_request import ApiWithFirstRequest
from invoicefs.scheduling.disk_threads import DiskThreads
from invoicefs.scheduling.scheduler import Scheduler
from invoicefs.settings import Settings
from invoicefs.store.store import Store, open_store, store_folder


class Tenant(NamedTuple):
    """The library of a tenant, and the parts of it that ``status`` reports on."""

    library: Library
    scheduler: Scheduler
    store: Store


def open_tenant(
    stack: ExitStack,
    settings: Settings,
    credentials: Credentials,
    api: ApiWithFirstRequest,
    clock: Clock,
    *,
    is_caller_killed: Callable[[], bool] | None = None,
    caller: Callable[[], int] = lambda: 0,
) -> Tenant:
    """Return the parts of a tenant, which `stack` closes; the caller closes the API.

    `is_caller_killed` and `caller` are as in `Library`. Raises `StoreUnusable`, but not for a store
    that only fails at present.
    """
    folder = store_folder(settings.cache_dir, settings.url)
    store = stack.enter_context(closing(open_store(folder, settings.cache_size_bytes, clock)))
    disk = DiskThreads(settings.timeout_s, on_thread_end=store.close)
    stack.callback(disk.close)
    access = Access(store, disk, credentials.current_identity)
    api.note_access_with(access.note)
    scheduler = Scheduler(settings, clock, on_worker_end=store.close)
    stack.callback(scheduler.close)
    library = Library(
        api,
        store,
        scheduler,
        clock,
        settings,
        disk=disk,
        access=access,
        is_caller_killed=is_caller_killed,
        caller=caller,
    )
    return Tenant(library, scheduler, store)
