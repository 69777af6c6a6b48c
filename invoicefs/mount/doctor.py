"""Checks of everything that a mount needs; each finding says how to fix a problem."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from invoicefs.api.client import Api
from invoicefs.clock import Deadline, SystemClock
from invoicefs.credentials.load import Credentials, refusal
from invoicefs.errors import Denied, InvoicefsError, Unauthenticated, UserError
from invoicefs.kernel.libfuse import load_binding
from invoicefs.mount import mountpoint, preflight
from invoicefs.settings import Settings
from invoicefs.store.store import open_store, store_folder
from invoicefs.units import GIB


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check: a success, or a problem and how to fix it."""

    is_ok: bool
    words: str


def check_machine() -> Iterator[Finding]:
    """Check whether this machine can mount."""
    yield _finding("libfuse 2 and its Python binding work", _check_binding)
    yield _finding("fusermount is installed", preflight.check_fusermount)
    yield _finding("/dev/fuse exists and you can open it", preflight.check_device)
    dead = [mount.path for mount in mountpoint.invoicefs_mounts() if mountpoint.is_dead(mount.path)]
    for path in dead:
        yield Finding(
            False, f"the process of the mount {path} has ended: invoicefs umount --lazy {path}"
        )
    if not dead:
        yield Finding(True, "the process of every mount is running")


def check_tenant_access(settings: Settings, credentials: Credentials) -> Iterator[Finding]:
    """Check whether the tenant accepts the credential and the cache can be used."""
    for path in credentials.exposed_files:
        yield Finding(False, f"Others can read or change {path}: chmod 600 {path}")
    yield _finding(
        f"the API accepts {credentials.description}", _health_check(settings, credentials)
    )
    if settings.allow_other:
        yield _finding("--allow-other can be used", preflight.check_allow_other)
    yield _finding(f"the cache in {settings.cache_dir} can be used", lambda: _check_store(settings))


def _check_binding() -> None:
    preflight.check_libfuse()
    load_binding()


def _health_check(settings: Settings, credentials: Credentials) -> Callable[[], None]:
    def check() -> None:
        api = Api(
            settings.url,
            credentials,
            parallel=1,
            max_pdf_size_bytes=settings.max_pdf_size_bytes,
        )
        with closing(api):
            try:
                _list(api, settings)
            except Unauthenticated as error:
                raise refusal(settings.url, credentials, error) from error
            except Denied:
                pass  # a credential without permission to list may still download
            except InvoicefsError as error:
                raise UserError(f"{settings.url}: {error}.") from error

    return check


def _list(api: Api, settings: Settings) -> None:
    """Make one list request of each kind to the API; raises the error of a failed one.

    An HTTP cache on the way could respond although the API is down or the token was revoked.
    """
    deadline = Deadline.after(settings.timeout_s, SystemClock())
    listed = api.namespaces(deadline, bypass_caches=True).names
    for namespace in (settings.namespaces or listed)[:1]:
        api.invoices(namespace, deadline, bypass_caches=True)


def _check_store(settings: Settings) -> None:
    folder = store_folder(settings.cache_dir, settings.url)
    with closing(open_store(folder, GIB, SystemClock())) as store:
        if store.failure:
            raise UserError(f"The cache {folder} cannot be used now: {store.failure}.")


def _finding(words: str, check: Callable[[], None]) -> Finding:
    try:
        check()
    except UserError as error:
        return Finding(False, str(error))
    return Finding(True, words)
