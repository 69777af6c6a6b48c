"""The life of a mount: checks, construction, serving, and unmounting.

Everything that can be checked is checked before libfuse is asked to mount, because libfuse reports
a failure only as a number. The machine and the folder are checked first, in the calling process;
then the store and the API, in the process of the mount, which then mounts.

This module connects `api`, `store` and `library`, which do not import each other.
"""

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from invoicefs.api.client import Api
from invoicefs.clock import Clock, SystemClock
from invoicefs.credentials.load import Credentials
from invoicefs.errors import (
    OutOfMemory,
    UserError,
)
from invoicefs.folders import NewFolder
from invoicefs.kernel.callers import caller, is_caller_killed
from invoicefs.kernel.filesystem import InvoiceFilesystem, XattrFilesystem
from invoicefs.kernel.libfuse import serve
from invoicefs.kernel.stat_helper import StatHelper
from invoicefs.library.access import Access
from invoicefs.library.library import Library
from invoicefs.malloc import return_large_blocks
from invoicefs.mount import mountpoint, preflight
from invoicefs.mount.activity import RecentFailures, RequestCounters
from invoicefs.mount.control_server import ControlServer
from invoicefs.mount.control_socket import ControlSocket
from invoicefs.mount.daemon import run_in_background
from invoicefs.mount.first_contact import Warn, check_tenant
from invoicefs.mount.sd_notify import ServiceManager
from invoicefs.scheduling.disk_threads import DiskThreads
from invoicefs.scheduling.scheduler import Scheduler
from invoicefs.settings import Settings
from invoicefs.store.store import open_store, store_folder

_UMASK = 0o077  # everything that a mount writes is private to its owner


@dataclass(frozen=True, slots=True)
class _Place:
    """The folder, with and without symbolic links, and the source that ``mount`` shows for it."""

    path: str
    real_path: str
    source: str


@dataclass(frozen=True, slots=True)
class _Events:
    """The callbacks for when the mount is usable, and when it has ended."""

    on_ready: Callable[[], None]
    on_end: Callable[[], None]


def mount(
    settings: Settings,
    credentials: Credentials,
    path: str,
    *,
    source: str,
    is_foreground: bool,
    failures: RecentFailures,
    warn: Warn,
) -> None:
    """Mount a tenant on a folder.

    In the background, it returns when the folder is usable. In the foreground, it returns when the
    folder has been unmounted, and notifies the service manager, if there is one. Raises `UserError`
    if mounting fails; then nothing is mounted and no process is left. `source` is the name that
    ``df`` and ``mount`` show, by which mount(8) recognises that a line of fstab is mounted.
    `failures` provides the recent failures for the status. `warn` prints a warning.
    """
    manager = ServiceManager.from_environment()
    preflight.check(allow_other=settings.allow_other)
    preflight.raise_descriptor_limit(settings.parallel)
    reservation = mountpoint.reserve(path)
    place = _Place(path, os.path.realpath(path), source)

    def serve(on_ready: Callable[[], None], on_end: Callable[[], None]) -> None:
        def mounted() -> None:
            reservation.release()
            new_store.keep()
            on_ready()

        new_store = NewFolder(store_folder(settings.cache_dir, settings.url))
        try:
            _serve_tenant(settings, credentials, place, _Events(mounted, on_end), failures, warn)
        except OutOfMemory as error:
            raise UserError(f"The mount cannot be started: {error}.") from error
        finally:
            new_store.remove_if_new()

    try:
        if is_foreground:
            serve(manager.notify_ready, manager.notify_stopping)
        else:
            run_in_background(lambda on_ready: serve(on_ready, lambda: None))
    finally:
        reservation.release()


def _serve_tenant(
    settings: Settings,
    credentials: Credentials,
    place: _Place,
    events: _Events,
    failures: RecentFailures,
    warn: Warn,
) -> None:
    """Create the parts of the mount, mount, serve until it is unmounted, and close them."""
    os.umask(_UMASK)
    return_large_blocks()
    clock = SystemClock()
    folder = store_folder(settings.cache_dir, settings.url)
    store = open_store(folder, settings.cache_size_bytes, clock)
    if store.failure:
        warn(
            f"The cache {folder} cannot be used now: {store.failure}. "
            "Invoices are downloaded each time they are opened."
        )
    counters = RequestCounters()
    disk = DiskThreads(settings.timeout_s, on_thread_end=store.close)
    access = Access(store, disk, credentials.current_identity)
    api = Api(
        settings.url,
        credentials,
        parallel=settings.parallel,
        max_pdf_size_bytes=settings.max_pdf_size_bytes,
        count_request=counters.add,
        note_access=access.note,
    )
    scheduler = Scheduler(settings, clock, on_worker_end=store.close)
    with closing(store), closing(api), closing(disk), closing(scheduler):
        library = Library(
            api,
            store,
            scheduler,
            clock,
            settings,
            disk=disk,
            access=access,
            is_caller_killed=is_caller_killed,
        )
        check_tenant(library, settings, credentials, warn)
        server = ControlServer(
            settings,
            library,
            scheduler,
            counters,
            failures,
            store,
            clock,
            mount_point=place.real_path,
            credential=credentials.description,
        )
        with closing(ControlSocket(server.respond)) as control:
            _serve_library(library, control, settings, place, clock, events)


def _serve_library(
    library: Library,
    control: ControlSocket,
    settings: Settings,
    place: _Place,
    clock: Clock,
    events: _Events,
) -> None:
    kind = XattrFilesystem if settings.xattr else InvoiceFilesystem
    with closing(StatHelper(place.path)) as stat_helper:

        def on_mounted() -> None:
            # mountinfo lists the mount now; the folder responds only when this has returned.
            if mount := mountpoint.last_mount(place.real_path):
                stat_helper.device = mount.device
                control.open(mount.device)
            events.on_ready()

        filesystem = kind(library, settings, clock, stat_helper.stat, caller, on_mounted)
        try:
            serve(filesystem, place.path, settings, source=place.source)
        finally:
            events.on_end()
