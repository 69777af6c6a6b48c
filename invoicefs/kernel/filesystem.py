"""The FUSE operations: paths, handles, and which errno a program gets.

`library.Library` does everything else, and `fuse_binding` knows the structures of libfuse.

`InvoiceFilesystem.__call__` is the only place where exceptions become errnos, because every
operation is called through it. It must raise nothing but an `OSError` with an errno: exceptions of
``requests`` are `OSError` with ``errno=None``, on which fusepy 3.0.1's own handler fails, and the
kernel gets a random number (measured).

An attribute with the name of a FUSE operation becomes that callback, so fields are private.
``flush`` and the xattr operations are left out on purpose: libfuse then answers the first of each
with ENOSYS, and the kernel sends no more of them (measured: 169 upcalls -> 43 for an ``ls -l`` of
20 files). ``--xattr`` mounts `XattrFilesystem` instead.

Threading: callbacks come from many threads at once. `_lock` guards changes to `_handles` and
`_next_handle`, and is not held during calls to the library.
"""

import errno
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from invoicefs.clock import Clock
from invoicefs.errors import (
    BadHandle,
    CallerKilled,
    Denied,
    InvoicefsError,
    NameTooLong,
    NoAttribute,
    NotFound,
    Outdated,
    ReadOnly,
)
from invoicefs.kernel import xattrs
from invoicefs.kernel.applied_sizes import AppliedSizes
from invoicefs.kernel.errnos import errno_of
from invoicefs.kernel.recent_requests import RecentRequests
from invoicefs.library.directories import Directory
from invoicefs.library.library import Library
from invoicefs.library.results import OpenInvoice
from invoicefs.model import ROOT_INODE, Attributes
from invoicefs.names import NAME_MAX_BYTES, path_bytes
from invoicefs.settings import Fetch, Settings

log = logging.getLogger(__name__)

_STATFS_BLOCK_BYTES = 4096  # f_bsize
_NOT_WORTH_LOGGING = (NameTooLong, NoAttribute, Outdated)

DirectoryEntry = tuple[bytes, int, int]
"""A name, its ``d_ino``, and its file type as in st_mode."""

# Inode 0 would hide an entry, so these two have the inode of the root, which the kernel ignores.
_DOTS: tuple[DirectoryEntry, ...] = (
    (b".", ROOT_INODE, stat.S_IFDIR),
    (b"..", ROOT_INODE, stat.S_IFDIR),
)


class OpenFile(NamedTuple):
    """An opened file; `is_applied` is false if the kernel may have the wrong size for it."""

    handle: int
    is_applied: bool


class InvoiceFilesystem:
    """The operations that libfuse calls, each with the arguments that fusepy gives it.

    `on_ready` is called once, when the kernel has accepted the mount. For `stat_outside` and
    `caller` see `AppliedSizes`. The class has more than 20 methods because every FUSE operation is
    one.
    """

    use_ns = True  # times are whole nanoseconds
    # Operations on a handle do not need a path, so libfuse need not build one.
    flag_nullpath_ok = 1
    flag_nopath = 1

    def __init__(
        self,
        library: Library,
        settings: Settings,
        clock: Clock,
        stat_outside: Callable[[str], bool],
        caller: Callable[[], int],
        on_ready: Callable[[], None],
    ) -> None:
        self._library = library
        self._sizes = AppliedSizes(self._shown, self._shown_at_once, stat_outside, caller)
        is_on_stat = settings.fetch is Fetch.ON_STAT
        self._recent_requests = RecentRequests(clock) if is_on_stat else None
        self._on_ready = on_ready
        self._lock = threading.Lock()
        self._handles: dict[int, OpenInvoice | Directory] = {}
        self._next_handle = 1

    def __call__(self, operation: str, *arguments: Any) -> Any:
        """Call an operation; raises `OSError` with an errno and nothing else."""
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s of %s", operation, _subject(arguments))
        try:
            return getattr(self, operation)(*arguments)
        except InvoicefsError as error:
            code = errno_of(error)
            if _is_worth_logging(operation, error):
                log.warning("%s: %s (%s)", _subject(arguments), error, errno.errorcode[code])
            raise OSError(code, os.strerror(code)) from None
        except CallerKilled:
            raise OSError(errno.EINTR, os.strerror(errno.EINTR)) from None
        except MemoryError:
            log.warning("%s: out of memory", _subject(arguments))
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from None
        except Exception:
            log.exception("Unexpected failure of %s", operation)
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from None

    def init(self, _path: str) -> None:
        """Report that the mount is usable; libfuse calls this once."""
        self._on_ready()

    def getattr(self, path: str | None, handle: int | None = None) -> Attributes:
        """Answer ``stat`` and ``fstat``; without a handle there is always a path."""
        if handle is not None:
            return self._library.open_attributes(self._opened(handle))
        assert path is not None
        return self._sizes.to_send(path)

    def access(self, path: str, mode: int) -> None:
        """Answer ``access``: an invoice cannot be executed; the kernel itself refuses writes."""
        if mode & os.X_OK and path.count("/") > 1:
            raise Denied("an invoice is not a program")

    def opendir(self, path: str) -> int:
        """List a directory once for all reads of the handle, so that only ``opendir`` can fail."""
        return self._keep(self._library.directory(path))

    def readdir(self, _path: str | None, handle: int) -> Iterator[DirectoryEntry]:
        """Answer ``getdents``."""
        directory = self._handles.get(handle)
        if not isinstance(directory, Directory):
            raise BadHandle("not an open directory")
        return _entries(directory)

    def releasedir(self, _path: str | None, handle: int) -> None:
        """Forget a directory handle."""
        self._forget(handle)

    def open(self, path: str, flags: int) -> OpenFile:
        """Open an invoice, and pin its whole content to the handle."""
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise ReadOnly("the folder is read-only")
        opened = self._library.open(path)
        try:
            is_applied = self._sizes.apply(path, self._library.open_attributes(opened))
        except Exception:
            self._library.release(opened)
            raise
        return OpenFile(self._keep(opened), is_applied)

    def read(self, _path: str | None, size: int, offset: int, handle: int) -> bytes | memoryview:
        """Return a slice of the content of a handle; makes no request."""
        pdf = self._opened(handle).content.pdf
        # A slice of bytes would be a copy.
        part = memoryview(pdf) if isinstance(pdf, bytes) else pdf
        return part[offset : offset + size]

    def release(self, _path: str | None, handle: int) -> None:
        """Release the content of a handle."""
        opened = self._forget(handle)
        if isinstance(opened, OpenInvoice):
            self._library.release(opened)

    def statfs(self, _path: str) -> dict[str, int]:
        """Answer ``df``: the sum of all known sizes, and nothing free."""
        usage = self._library.usage()
        return {
            "f_bsize": _STATFS_BLOCK_BYTES,
            "f_frsize": _STATFS_BLOCK_BYTES,
            "f_blocks": -(-usage.size_bytes // _STATFS_BLOCK_BYTES),
            "f_files": usage.files,
            "f_namemax": NAME_MAX_BYTES,
        }

    def _refuse_change(self, *_: object) -> None:
        """Refuse an operation that would change something, even if root remounts with ``rw``."""
        raise ReadOnly("the folder is read-only")

    chmod = chown = create = link = mkdir = mknod = rename = rmdir = _refuse_change
    symlink = truncate = unlink = utimens = write = _refuse_change

    def _shown(self, path: str) -> Attributes:
        """Return what ``stat`` shows; may wait for a download, with on-stat only in a GETATTR."""
        found = self._library.lookup(path)
        if not found.is_download_due:
            return found.attributes
        if self._recent_requests is None or self._recent_requests.note(path):
            return self._library.attributes(path)
        return found.attributes

    def _shown_at_once(self, path: str) -> Attributes:
        return self._library.lookup(path).attributes

    def _keep(self, opened: OpenInvoice | Directory) -> int:
        with self._lock:
            handle = self._next_handle
            self._next_handle += 1
            self._handles[handle] = opened
        return handle

    def _forget(self, handle: int) -> OpenInvoice | Directory | None:
        with self._lock:
            return self._handles.pop(handle, None)

    def _opened(self, handle: int) -> OpenInvoice:
        opened = self._handles.get(handle)
        if not isinstance(opened, OpenInvoice):
            raise BadHandle("not an open file")
        return opened


class XattrFilesystem(InvoiceFilesystem):
    """An `InvoiceFilesystem` with extended attributes, which are read-only."""

    def listxattr(self, path: str) -> list[str]:
        """Answer ``listxattr``; `xattrs.ERROR` is not among the names."""
        return list(self._attributes(path))

    def getxattr(self, path: str, name: str, _position: int = 0) -> bytes:
        """Answer ``getxattr``."""
        found = self._attributes(path).get(name)
        if name == xattrs.ERROR and (words := self._library.open_error(path)):
            found = xattrs.value(words)
        if found is None:
            raise NoAttribute(f"{path} has no {name}")
        return found

    setxattr = removexattr = InvoiceFilesystem._refuse_change

    def _attributes(self, path: str) -> Mapping[str, bytes]:
        return xattrs.described(self._library.description(path))


def _entries(directory: Directory) -> Iterator[DirectoryEntry]:
    yield from _DOTS
    kind = stat.S_IFDIR if directory.has_directories else stat.S_IFREG
    for entry in directory.entries:
        yield path_bytes(entry.file_name), entry.inode, kind


def _is_worth_logging(operation: str, error: InvoicefsError) -> bool:
    """Return whether to log a failure; programs that probe for names would fill the log."""
    is_probing = isinstance(error, NotFound) and operation != "open"
    return not (is_probing or operation == "access" or isinstance(error, _NOT_WORTH_LOGGING))


def _subject(arguments: tuple[Any, ...]) -> str:
    """Return the path of an operation, for the log."""
    return arguments[0] if arguments and arguments[0] else "an open file"
