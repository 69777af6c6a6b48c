"""The life of a mount: what is checked before it, what it is made of, and how it ends.

Everything that can be checked is checked before libfuse is asked to mount, because it reports a
failure only as a number. The order is: the machine and the folder (in the calling process), then
the store and the API (where the mount will live), then the mount.
"""

import ctypes.util
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from invoicefs import mountpoint
from invoicefs.api import Api
from invoicefs.background import run_in_background
from invoicefs.catalog import View
from invoicefs.clock import Clock, SystemClock
from invoicefs.config import URL_EXAMPLE, Fetch, Settings
from invoicefs.credentials import Credential
from invoicefs.disk import DiskThreads
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
from invoicefs.fetcher import Fetcher, Limits
from invoicefs.filesystem import DescribingFilesystem, InvoiceFilesystem, Ownership, serve
from invoicefs.library import Library, Policy
from invoicefs.looker import Looker
from invoicefs.memory import give_back_large_blocks
from invoicefs.store import open_store, store_folder

log = logging.getLogger(__name__)

Warn = Callable[[str], None]

_FUSE_DEVICE = Path("/dev/fuse")
_FUSE_CONF = Path("/etc/fuse.conf")
_SYSTEM_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"  # also looked through where PATH is not set


def mount(
    settings: Settings,
    credential: Credential,
    path: str,
    *,
    is_foreground: bool,
    warn: Warn,
) -> None:
    """Mount a tenant on a folder.

    In the background: returns when the folder is usable. In the foreground: returns when it has
    been unmounted. Raises `UserError` where it cannot be mounted; nothing is mounted then, and
    no process stays behind. `warn` gets sentences about what works only in part.
    """
    check_machine(settings)
    mountpoint.make_free(path)

    def serve_tenant(on_ready: Callable[[], None]) -> None:
        _serve_tenant(settings, credential, path, on_ready, warn)

    if is_foreground:
        serve_tenant(lambda: log.info("%s is mounted on %s", settings.url, path))
    else:
        run_in_background(serve_tenant)


def check_machine(settings: Settings) -> None:
    """Make sure that this machine can mount; raises `UserError` that says what to install."""
    library = os.environ.get("FUSE_LIBRARY_PATH") or ctypes.util.find_library("fuse")
    if library is None:
        raise UserError("libfuse 2 is missing: apt install libfuse2 (or libfuse2t64).")
    if "libfuse3" in library:
        raise UserError(
            f"{library} is libfuse 3, which this program cannot use: apt install libfuse2 "
            "(or libfuse2t64) and unset FUSE_LIBRARY_PATH."
        )
    search_path = f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}"
    if shutil.which("fusermount", path=search_path) is None:
        raise UserError("The program fusermount is missing: apt install fuse3.")
    if not _FUSE_DEVICE.exists():
        raise UserError(f"{_FUSE_DEVICE} is missing: modprobe fuse, or allow it in the container.")
    if not os.access(_FUSE_DEVICE, os.R_OK | os.W_OK):
        raise UserError(f"You may not use {_FUSE_DEVICE}: chmod 666 {_FUSE_DEVICE} (as root).")
    if settings.allow_other and os.geteuid() != 0 and not _others_are_allowed():
        raise UserError(f"--allow-other needs the line user_allow_other in {_FUSE_CONF}.")


def _serve_tenant(
    settings: Settings,
    credential: Credential,
    path: str,
    on_ready: Callable[[], None],
    warn: Warn,
) -> None:
    """Make everything the mount is made of, mount, serve until unmounted, and close it all."""
    give_back_large_blocks()
    clock = SystemClock()
    folder = store_folder(settings.cache_dir, settings.url)
    store = open_store(folder, settings.cache_size_bytes, clock)
    if store.trouble:
        warn(
            f"The store {folder} cannot be used now: {store.trouble}. "
            "Invoices are downloaded each time they are opened."
        )
    api = Api(
        settings.url,
        credential,
        parallel=settings.parallel,
        max_pdf_size_bytes=settings.max_pdf_size_bytes,
    )
    fetcher = Fetcher(Limits(settings.parallel, settings.max_wait_s), clock)
    disk = DiskThreads(settings.timeout_s)
    with closing(store), closing(api), closing(disk), closing(fetcher):
        library = Library(
            api,
            store,
            fetcher,
            clock,
            view=View(settings.namespaces, settings.statuses),
            policy=Policy(
                timeout_s=settings.timeout_s,
                list_ttl_s=settings.list_ttl_s,
                active_ttl_s=settings.active_ttl_s,
                max_pdf_size_bytes=settings.max_pdf_size_bytes,
                fetches_on_stat=settings.fetch is Fetch.ON_STAT,
                largest_window=settings.parallel,
                read_ahead=settings.read_ahead,
            ),
            disk=disk,
        )
        _check_tenant(library, settings, credential, warn)
        _serve_library(library, settings, path, clock, on_ready)


def _serve_library(
    library: Library, settings: Settings, path: str, clock: Clock, on_ready: Callable[[], None]
) -> None:
    ownership = Ownership(settings.uid, settings.gid, settings.file_mode, settings.directory_mode)
    kind = DescribingFilesystem if settings.xattr else InvoiceFilesystem
    with closing(Looker(path)) as looker:
        filesystem = kind(library, ownership, clock, looker.look, on_ready)
        try:
            serve(filesystem, path, _fuse_options(settings))
        except RuntimeError as error:
            raise UserError(f"libfuse could not mount {path} (it ended with {error}).") from error


def _fuse_options(settings: Settings) -> dict[str, bool | int | str]:
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
        "fsname": settings.url.replace("\\", "\\\\").replace(",", "\\,"),
        "subtype": "invoicefs",
    }
    if settings.allow_other:
        # Only with it do permission bits mean anything; without, it costs an upcall per path step.
        options |= {"allow_other": True, "default_permissions": True}
    return options


def _check_tenant(library: Library, settings: Settings, credential: Credential, warn: Warn) -> None:
    """Ask the API once; raises `UserError` where mounting makes no sense, else warns."""
    try:
        found = library.first_contact()
    except Unauthenticated as error:
        raise UserError(
            f"{settings.url} does not accept the token from {credential.origin}: {error}. "
            "Make a new one in the console under Personal Management, Credentials."
        ) from error
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


def _others_are_allowed() -> bool:
    try:
        lines = _FUSE_CONF.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any(line.split("#")[0].strip() == "user_allow_other" for line in lines)
