"""The life of a mount: checks, processes, and unmounting.

Everything that can be checked is checked before libfuse is asked to mount, because libfuse reports
a failure only as a number. The machine and the folder are checked here, in the calling process;
then `serving` checks the store and the API, in the process of the mount, and mounts.

The calling process imports neither `first_request` nor `serving`, so most of the program is
imported only where it is used: the command ends faster, and the fork does not copy it.
"""

import os
from collections.abc import Callable
from contextlib import closing

from invoicefs.credentials.load import Credentials
from invoicefs.errors import OutOfMemory, UserError
from invoicefs.kernel.stat_helper import StatHelper
from invoicefs.mount import mountpoint, preflight
from invoicefs.mount.activity import RecentFailures, RequestCounters
from invoicefs.mount.daemon import run_in_background
from invoicefs.mount.sd_notify import ServiceManager
from invoicefs.settings import Settings

_UMASK = 0o077  # everything that a mount writes is private to its owner


def mount(
    settings: Settings,
    credentials: Credentials,
    path: str,
    *,
    source: str,
    is_foreground: bool,
    failures: RecentFailures,
    warn: Callable[[str], None],
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
    real_path = os.path.realpath(path)

    def serve(on_ready: Callable[[], None], on_end: Callable[[], None]) -> None:
        def on_mounted() -> None:
            reservation.release()
            on_ready()

        os.umask(_UMASK)
        # The helper starts, and the API responds, while this process imports the rest.
        with closing(StatHelper(path)) as stat_helper:
            from invoicefs.mount.first_request import connect

            try:
                counters = RequestCounters()
                with closing(connect(settings, credentials, counters)) as api:
                    from invoicefs.mount.serving import EarlyParts, Events, Place, serve_tenant

                    serve_tenant(
                        settings,
                        credentials,
                        Place(path, real_path, source),
                        EarlyParts(stat_helper, api, counters),
                        Events(on_mounted, on_end),
                        failures,
                        warn,
                    )
            except OutOfMemory as error:
                raise UserError(f"The mount cannot be started: {error}.") from error

    try:
        if is_foreground:
            serve(manager.notify_ready, manager.notify_stopping)
        else:
            run_in_background(lambda on_ready: serve(on_ready, lambda: None))
    finally:
        reservation.release()
