"""The process of a mount: creates its parts, checks the first response, and serves the kernel."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass

from invoicefs.clock import Clock, SystemClock
from invoicefs.credentials.load import Credentials
from invoicefs.folders import NewFolder
from invoicefs.kernel.callers import caller, is_caller_killed
from invoicefs.kernel.filesystem import InvoiceFilesystem, XattrFilesystem
from invoicefs.kernel.libfuse import load_binding, serve
from invoicefs.kernel.stat_helper import StatHelper
from invoicefs.library.library import Library
from invoicefs.malloc import return_large_blocks
from invoicefs.mount import mountpoint
from invoicefs.mount.activity import RecentFailures, RequestCounters
from invoicefs.mount.control_server import ControlServer
from invoicefs.mount.control_socket import ControlSocket
from invoicefs.mount.first_contact import Warn, check_tenant
from invoicefs.mount.first_request import ApiWithFirstRequest
from invoicefs.mount.tenant import open_tenant
from invoicefs.settings import Settings
from invoicefs.store.store import store_folder


@dataclass(frozen=True, slots=True)
class Place:
    """The folder, with and without symbolic links, and the source that ``mount`` shows for it."""

    path: str
    real_path: str
    source: str


@dataclass(frozen=True, slots=True)
class EarlyParts:
    """The parts that were started before this module was imported; the caller closes them.

    `counters` counts the requests of `api`.
    """

    stat_helper: StatHelper
    api: ApiWithFirstRequest
    counters: RequestCounters


@dataclass(frozen=True, slots=True)
class Events:
    """The callbacks for when the mount is usable, and when it has ended."""

    on_ready: Callable[[], None]
    on_end: Callable[[], None]


def serve_tenant(
    settings: Settings,
    credentials: Credentials,
    place: Place,
    early: EarlyParts,
    events: Events,
    failures: RecentFailures,
    warn: Warn,
) -> None:
    """Create the parts of the mount, mount, serve until it is unmounted, and close them.

    Raises exceptions of `errors` if mounting fails; then no new store is left.
    """
    return_large_blocks()
    clock = SystemClock()
    with ExitStack() as stack:
        new_store = NewFolder(store_folder(settings.cache_dir, settings.url))
        stack.callback(new_store.remove_if_new)

        def on_ready() -> None:
            new_store.keep()
            events.on_ready()

        tenant = open_tenant(
            stack,
            settings,
            credentials,
            early.api,
            clock,
            is_caller_killed=is_caller_killed,
            caller=caller,
        )
        if tenant.store.failure:
            warn(
                f"The cache {tenant.store.folder} cannot be used now: {tenant.store.failure}. "
                "Invoices are downloaded each time they are opened."
            )
        load_binding()  # while the API responds
        check_tenant(tenant.library, settings, credentials, warn)
        server = ControlServer(
            settings,
            tenant.library,
            tenant.scheduler,
            early.counters,
            failures,
            tenant.store,
            clock,
            mount_point=place.real_path,
            credential=credentials.description,
        )
        control = stack.enter_context(closing(ControlSocket(server.respond)))
        own_events = Events(on_ready, events.on_end)
        _serve_library(
            tenant.library, control, settings, place, early.stat_helper, clock, own_events
        )


def _serve_library(
    library: Library,
    control: ControlSocket,
    settings: Settings,
    place: Place,
    stat_helper: StatHelper,
    clock: Clock,
    events: Events,
) -> None:
    def on_mounted() -> None:
        # mountinfo lists the mount now; the folder responds only when this has returned.
        if mount := mountpoint.last_mount(place.real_path):
            stat_helper.device = mount.device
            control.open(mount.device)
        events.on_ready()

    kind = XattrFilesystem if settings.xattr else InvoiceFilesystem
    filesystem = kind(library, settings, clock, stat_helper.stat, caller, on_mounted)
    try:
        serve(filesystem, place.path, settings, source=place.source)
    finally:
        events.on_end()
