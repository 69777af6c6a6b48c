"""Checks all that a mount needs, one after the other, and says how to fix what is wrong."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from invoicefs.api.client import Api
from invoicefs.clock import Deadline, SystemClock
from invoicefs.credentials.load import Credentials, refusal
from invoicefs.errors import Denied, InvoicefsError, Unauthenticated, UserError
from invoicefs.kernel.fuse_binding import load_binding
from invoicefs.mount import mountpoint
from invoicefs.mount import preflight as machine
from invoicefs.settings import Settings
from invoicefs.store.store import open_store, store_folder
from invoicefs.units import GIB


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: all well, or what is wrong and how to fix it."""

    is_well: bool
    words: str


def of_machine() -> Iterator[Finding]:
    """Whether anything can be mounted here."""
    yield _found("libfuse 2 and its Python binding can be used", _check_binding)
    yield _found("fusermount is there", machine.check_fusermount)
    yield _found("/dev/fuse is there and open to you", machine.check_device)
    dead = [each.path for each in mountpoint.our_mounts() if mountpoint.is_dead(each.path)]
    for path in dead:
        yield Finding(False, f"{path} has lost its process: invoicefs umount --lazy {path}")
    if not dead:
        yield Finding(True, "no mount has lost its process")


def of_tenant(settings: Settings, credentials: Credentials) -> Iterator[Finding]:
    """Whether the tenant lets us in, and its store can be used."""
    for path in credentials.open_files:
        yield Finding(False, f"Others can read or change {path}: chmod 600 {path}")
    yield _found(f"the API answers to {credentials.description}", _asking(settings, credentials))
    if settings.allow_other:
        yield _found("others may be let in", machine.check_others)
    yield _found(f"the store in {settings.cache_dir} can be used", lambda: _check_store(settings))


def _check_binding() -> None:
    machine.check_libfuse()
    load_binding()


def _asking(settings: Settings, credentials: Credentials) -> Callable[[], None]:
    def ask() -> None:
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
                pass  # whoever may not list may download all the same
            except InvoicefsError as error:
                raise UserError(f"{settings.url}: {error}.") from error

    return ask


def _list(api: Api, settings: Settings) -> None:
    """Make one request of each kind of list; raises what they bring."""
    deadline = Deadline.after(settings.timeout_s, SystemClock())
    listed = api.namespaces(deadline).names
    for namespace in (settings.namespaces or listed)[:1]:
        api.invoices(namespace, deadline)


def _check_store(settings: Settings) -> None:
    folder = store_folder(settings.cache_dir, settings.url)
    with closing(open_store(folder, GIB, SystemClock())) as store:
        if store.failure:
            raise UserError(f"The store {folder} cannot be used now: {store.failure}.")


def _found(words: str, check: Callable[[], None]) -> Finding:
    try:
        check()
    except UserError as error:
        return Finding(False, str(error))
    return Finding(True, words)
