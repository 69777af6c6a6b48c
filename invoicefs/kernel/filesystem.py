"""The FUSE adapter: paths, handles, stat dicts and errnos; the `Library` does everything else.

`InvoiceFilesystem.__call__` is the only place where exceptions become errnos, because fusepy calls
every operation through it. It must raise nothing but an `OSError` with an errno: exceptions of
``requests`` are `OSError` with ``errno=None``, on which fusepy 3.0.1's own handler fails, and the
kernel gets a random number (measured).

An attribute with the name of a FUSE operation becomes that callback, so fields are private.
``access``, ``flush`` and the xattr operations are left out on purpose: libfuse then answers the
first of each with ENOSYS, and the kernel sends no more of them (measured: 169 upcalls -> 43 for an
``ls -l`` of 20 files). ``--xattr`` mounts `XattrFilesystem` instead.

Threading: callbacks come from many threads at once. `_lock` guards changes to `_handles` and
`_next_handle`, and is not held during calls to the library.
"""

import errno
import itertools
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from invoicefs.clock import Clock
from invoicefs.errors import (
    BadHandle,
    InvoicefsError,
    NameTooLong,
    NoAttribute,
    NotFound,
    Outdated,
    ReadOnly,
)
from invoicefs.kernel import xattrs
from invoicefs.kernel.errnos import errno_of
from invoicefs.kernel.size_notifier import SizeNotifier
from invoicefs.library.directories import Entry
from invoicefs.library.library import Library, OpenInvoice
from invoicefs.model import ROOT_INODE, Attributes
from invoicefs.names import NAME_MAX_BYTES
from invoicefs.settings import Settings

log = logging.getLogger(__name__)

BLOCK_SIZE_BYTES = 4096  # st_blksize, f_bsize

# Inode 0 would hide an entry, so these two have the inode of the root, which the kernel ignores.
_DOTS: Final = tuple(Entry(name, ROOT_INODE, is_directory=True) for name in (".", ".."))


class InvoiceFilesystem:
    """The operations that fusepy calls, each with the arguments of its namesake in libfuse.

    `on_ready` is called once, when the kernel has accepted the mount. For `stat_outside`
    see `SizeNotifier`. The class has more than 20 methods because every FUSE operation is one.
    """

    use_ns: Final = True  # times are whole nanoseconds
    # Operations on a handle do not need a path, so libfuse need not build one.
    flag_nullpath_ok: Final = 1
    flag_nopath: Final = 1

    def __init__(
        self,
        library: Library,
        settings: Settings,
        clock: Clock,
        stat_outside: Callable[[str], None],
        on_ready: Callable[[], None],
    ) -> None:
        self._library = library
        self._settings = settings
        self._sizes = SizeNotifier(library, clock, stat_outside)
        self._on_ready = on_ready
        self._lock = threading.Lock()
        self._handles: dict[int, OpenInvoice | tuple[Entry, ...]] = {}
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
        except MemoryError:
            log.warning("%s: out of memory", _subject(arguments))
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from None
        except Exception:
            log.exception("Unexpected failure of %s", operation)
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from None

    def init(self, _path: str) -> None:
        """Report that the mount is usable; libfuse calls this once."""
        self._on_ready()

    def getattr(self, path: str | None, handle: int | None = None) -> dict[str, int]:
        """Answer ``stat`` and ``fstat``."""
        if handle is not None:
            return self._stat(self._library.open_attributes(self._opened(handle)))
        assert path is not None  # without a handle libfuse always has a path
        return self._stat(self._sizes.attributes(path))

    def opendir(self, path: str) -> int:
        """List a directory once for all reads of the handle, so that only ``opendir`` can fail."""
        return self._keep(self._library.directory(path))

    def readdir(self, _path: str | None, handle: int) -> Iterator[tuple[str, dict[str, int], int]]:
        """Answer ``getdents``: names with ``d_ino`` and ``d_type``."""
        entries = self._handles.get(handle)
        if not isinstance(entries, tuple):
            raise BadHandle("not an open directory")
        return map(_dirent, itertools.chain(_DOTS, entries))

    def releasedir(self, _path: str | None, handle: int) -> None:
        """Forget a directory handle."""
        self._forget(handle)

    def open(self, path: str, flags: int) -> int:
        """Open an invoice, and pin its whole content to the handle."""
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise ReadOnly("the folder is read-only")
        opened = self._library.open(path)
        try:
            self._sizes.notify(path, opened)
        except Exception:
            self._library.release(opened)
            raise
        return self._keep(opened)

    def read(self, _path: str | None, size: int, offset: int, handle: int) -> bytes:
        """Return a slice of the content of a handle; makes no request."""
        pdf = self._opened(handle).content.pdf
        return pdf[offset : offset + size]

    def release(self, _path: str | None, handle: int) -> None:
        """Release the content of a handle."""
        opened = self._forget(handle)
        if isinstance(opened, OpenInvoice):
            self._library.release(opened)

    def statfs(self, _path: str) -> dict[str, int]:
        """Answer ``df``: the sum of all known sizes, and nothing free."""
        usage = self._library.usage()
        return {
            "f_bsize": BLOCK_SIZE_BYTES,
            "f_frsize": BLOCK_SIZE_BYTES,
            "f_blocks": -(-usage.size_bytes // BLOCK_SIZE_BYTES),
            "f_files": usage.files,
            "f_namemax": NAME_MAX_BYTES,
        }

    def _refuse_change(self, *_: object) -> None:
        """Refuse an operation that would change something, even if root remounts with ``rw``."""
        raise ReadOnly("the folder is read-only")

    chmod = chown = create = link = mkdir = mknod = rename = rmdir = _refuse_change
    symlink = truncate = unlink = utimens = write = _refuse_change

    def _stat(self, attributes: Attributes) -> dict[str, int]:
        settings = self._settings
        if attributes.is_directory:
            mode = stat.S_IFDIR | settings.directory_mode
        else:
            mode = stat.S_IFREG | settings.file_mode
        return {
            "st_ino": attributes.inode,
            "st_mode": mode,
            "st_nlink": attributes.links,
            "st_uid": settings.uid,
            "st_gid": settings.gid,
            "st_size": attributes.size_bytes,
            "st_blocks": attributes.blocks,
            "st_blksize": BLOCK_SIZE_BYTES,
            "st_atime": attributes.mtime_ns,
            "st_mtime": attributes.mtime_ns,
            "st_ctime": attributes.mtime_ns,
        }

    def _keep(self, opened: OpenInvoice | tuple[Entry, ...]) -> int:
        with self._lock:
            handle = self._next_handle
            self._next_handle += 1
            self._handles[handle] = opened
        return handle

    def _forget(self, handle: int) -> OpenInvoice | tuple[Entry, ...] | None:
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


def _dirent(entry: Entry) -> tuple[str, dict[str, int], int]:
    """Return an entry for libfuse, which only uses inode and file type of the stat dict."""
    kind = stat.S_IFDIR if entry.is_directory else stat.S_IFREG
    return entry.name, {"st_ino": entry.inode, "st_mode": kind}, 0


def _is_worth_logging(operation: str, error: InvoicefsError) -> bool:
    """Return whether to log a failure; programs that probe for names would fill the log."""
    is_probing = isinstance(error, NotFound) and operation != "open"
    return not (is_probing or isinstance(error, Outdated | NameTooLong | NoAttribute))


def _subject(arguments: tuple[Any, ...]) -> str:
    """Return the path of an operation, for the log."""
    return arguments[0] if arguments and arguments[0] else "an open file"
