"""The life of a mount: what is checked before it, what it is made of, and how it ends.

Everything that can be checked is checked before libfuse is asked to mount, because it reports a
failure only as a number. The order is: the machine and the folder (in the calling process), then
the store and the API (where the mount will live), then the mount.
"""

import logging
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

from invoicefs.api.client import Api
from invoicefs.clock import Clock, SystemClock
from invoicefs.credentials.load import Credentials, refusal
from invoicefs.errors import (
    InvoicefsError,
    Misdirected,
    NoAnswer,
    OutOfMemory,
    TimedOut,
    Unauthenticated,
    Unreachable,
    UntrustedServer,
    UnusableAnswer,
    UserError,
)
from invoicefs.folders import NewFolder
from invoicefs.kernel.filesystem import DescribingFilesystem, InvoiceFilesystem, serve
from invoicefs.kernel.looker import Looker
from invoicefs.library.access import Access
from invoicefs.library.library import Library
from invoicefs.malloc import give_back_large_blocks
from invoicefs.mount import mountpoint
from invoicefs.mount import preflight as machine
from invoicefs.mount.activity import Activity
from invoicefs.mount.control_server import ControlServer
from invoicefs.mount.control_socket import ControlSocket
from invoicefs.mount.daemon import run_in_background
from invoicefs.mount.sd_notify import ServiceManager
from invoicefs.scheduling.disk_threads import DiskThreads
from invoicefs.scheduling.scheduler import Scheduler
from invoicefs.settings import Settings
from invoicefs.store.store import open_store, store_folder
from invoicefs.urls import URL_EXAMPLE

log = logging.getLogger(__name__)

Warn = Callable[[str], None]

_UMASK = 0o077  # whatever a mount writes is for its owner alone


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tenant is mounted, also without links on the way, and what it is called there."""

    path: str
    real_path: str
    source: str


@dataclass(frozen=True, slots=True)
class _Events:
    """What is called when the mount is usable, and when it has gone from its folder."""

    on_ready: Callable[[], None]
    on_end: Callable[[], None]


def mount(
    settings: Settings,
    credentials: Credentials,
    path: str,
    *,
    source: str,
    is_foreground: bool,
    warn: Warn,
) -> None:
    """Mount a tenant on a folder.

    In the background: returns when the folder is usable. In the foreground: returns when it has
    been unmounted, and the service manager is told, if there is one. Raises `UserError` where it
    cannot be mounted; nothing is mounted then, and no process stays behind. `source` is what ``df``
    and ``mount`` show: mount(8) takes a line of fstab for mounted where both are the same. `warn`
    gets sentences about what works only in part.
    """
    manager = ServiceManager.of_environment()
    machine.check(allow_other=settings.allow_other)
    machine.raise_descriptor_limit(settings.parallel)
    reservation = mountpoint.reserve(path)
    place = _Place(path, os.path.realpath(path), source)

    def serve(on_ready: Callable[[], None], on_end: Callable[[], None]) -> None:
        def mounted() -> None:
            reservation.release()
            new_store.forget()
            on_ready()

        new_store = NewFolder(store_folder(settings.cache_dir, settings.url))
        try:
            _serve_tenant(settings, credentials, place, _Events(mounted, on_end), warn)
        except OutOfMemory as error:
            raise UserError(f"The mount cannot be started: {error}.") from error
        finally:
            new_store.take_back()

    try:
        if is_foreground:
            serve(manager.tell_ready, manager.tell_stopping)
        else:
            run_in_background(lambda on_ready: serve(on_ready, lambda: None))
    finally:
        reservation.release()


def _serve_tenant(
    settings: Settings, credentials: Credentials, place: _Place, events: _Events, warn: Warn
) -> None:
    """Make everything the mount is made of, mount, serve until unmounted, and close it all."""
    os.umask(_UMASK)
    give_back_large_blocks()
    clock = SystemClock()
    folder = store_folder(settings.cache_dir, settings.url)
    store = open_store(folder, settings.cache_size_bytes, clock)
    if store.failure:
        warn(
            f"The cache {folder} cannot be used now: {store.failure}. "
            "Invoices are downloaded each time they are opened."
        )
    activity = Activity(clock)
    logging.getLogger().addHandler(activity)
    disk = DiskThreads(settings.timeout_s, on_thread_end=store.close)
    access = Access(store, disk, credentials.present_identity)
    api = Api(
        settings.url,
        credentials,
        parallel=settings.parallel,
        max_pdf_size_bytes=settings.max_pdf_size_bytes,
        count_request=activity.count_request,
        note_access=access.note,
    )
    scheduler = Scheduler(settings, clock, on_worker_end=store.close)
    with closing(store), closing(api), closing(disk), closing(scheduler):
        library = Library(api, store, scheduler, clock, settings, disk=disk, access=access)
        _check_tenant(library, settings, credentials, warn)
        server = ControlServer(
            settings,
            library,
            scheduler,
            activity,
            store,
            clock,
            mount_point=place.real_path,
            credential=credentials.description,
        )
        with closing(ControlSocket(server.answer)) as control:

            def on_mounted() -> None:
                # By now mountinfo has it; the folder itself answers only when this has returned.
                if mount := mountpoint.last_mount(place.real_path):
                    control.open(mount.device)
                events.on_ready()

            _serve_library(library, settings, place, clock, replace(events, on_ready=on_mounted))


def _serve_library(
    library: Library, settings: Settings, place: _Place, clock: Clock, events: _Events
) -> None:
    kind = DescribingFilesystem if settings.xattr else InvoiceFilesystem
    with closing(Looker(place.path)) as looker:
        filesystem = kind(library, settings, clock, looker.look, events.on_ready)
        try:
            serve(filesystem, place.path, _fuse_options(settings, place.source))
        except RuntimeError as error:
            raise UserError(
                f"libfuse could not mount {place.path} (it ended with {error})."
            ) from error
        finally:
            events.on_end()


def _fuse_options(settings: Settings, source: str) -> dict[str, bool | int | str]:
    """The mount options, see mount.fuse(8).

    `attr_timeout` is 0 because with 1 s ``tar`` still saw the size from before the download
    (measured). `auto_cache` drops the page cache when size or mtime have changed.
    """
    options: dict[str, bool | int | str] = {
        "ro": True,
        "nosuid": True,
        "nodev": True,
        "attr_timeout": 0,
        "auto_cache": True,
        "use_ino": True,
        "auto_unmount": True,
        "fsname": source.replace("\\", "\\\\").replace(",", "\\,"),
        "subtype": "invoicefs",
    }
    if settings.allow_other:
        # Only with it do permission bits mean anything; without, it costs an upcall per path step.
        options |= {"allow_other": True, "default_permissions": True}
    return options


def _check_tenant(
    library: Library, settings: Settings, credentials: Credentials, warn: Warn
) -> None:
    """Ask the API once; raises `UserError` where mounting makes no sense, else warns."""
    try:
        found = library.first_contact()
    except Unauthenticated as error:
        raise refusal(settings.url, credentials, error) from error
    except InvoicefsError as error:
        _judge(error, library, settings, warn)
        return
    for namespace in settings.namespaces:
        if namespace not in found:
            warn(f"The tenant lists no namespace {namespace}: is it written correctly?")


def _judge(error: InvoicefsError, library: Library, settings: Settings, warn: Warn) -> None:
    """Decide whether a failed first call is a reason not to mount."""
    url = settings.url
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
        warn(f"{url} cannot be reached now ({error}): what is known of it is shown.")
    else:
        warn(f"The namespaces cannot be listed now: {error}. Open invoices by their full path.")
