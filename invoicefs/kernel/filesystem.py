"""The FUSE adapter: paths, handles, stat dicts and errnos; everything else is the `Library`.

`InvoiceFilesystem.__call__` is the one place where exceptions become errnos, because fusepy calls
every operation through it. Nothing but an `OSError` with an errno may pass: exceptions of
``requests`` are `OSError` with ``errno=None``, on which fusepy 3.0.1's own handler fails and the
kernel gets a random number (measured).

An attribute with the name of a FUSE operation becomes that callback, so fields are private.
``access``, ``flush`` and the xattr operations are left out on purpose: libfuse then tells the
kernel once that they do not exist, and it stops asking (measured: 169 upcalls -> 43 for an
``ls -l`` of 20 files). `DescribingFilesystem` is what ``--xattr`` mounts.

Threading: callbacks come from many threads at once. `_lock` guards `_handles` and `_next_handle`
and is held for no call into the library. `_told`, what the kernel was last told by path, changes
by single assignments.
"""

import codecs
import errno
import itertools
import logging
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from invoicefs.clock import Clock
from invoicefs.errors import (
    BadHandle,
    InvoicefsError,
    NameTooLong,
    NoAttribute,
    NotFound,
    Outdated,
    ReadOnly,
    UserError,
)
from invoicefs.kernel import xattrs
from invoicefs.kernel.errnos import errno_of
from invoicefs.library.directories import Entry
from invoicefs.library.library import Library, OpenInvoice
from invoicefs.model import ROOT_INODE, Attributes
from invoicefs.names import NAME_MAX_BYTES
from invoicefs.settings import Settings

log = logging.getLogger(__name__)

BLOCK_SIZE_BYTES = 4096  # st_blksize, f_bsize

# Inode 0 would hide the entry, so these have that of the root; the kernel knows better.
_DOTS: Final = tuple(Entry(name, ROOT_INODE, is_directory=True) for name in (".", ".."))
_PATH_CODEC = "invoicefs_path"
# The kernel looks a name up again after 1 s, libfuse's entry_timeout; the rest is for a stat that
# is held up between its LOOKUP and its GETATTR.
_LOOKUP_LASTS_S = 2.0


class _Told(NamedTuple):
    """The size that the kernel was told for a path, and when it looked that up."""

    size_bytes: int
    looked_up_s: float


class InvoiceFilesystem:
    """The operations that fusepy calls; each takes what the operation of its name takes.

    `on_ready` is called once, when the kernel has accepted the mount. `look` has somebody look at a
    path of the mount, from outside of this process, and returns when the kernel has been told.
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
        look: Callable[[bytes], None],
        on_ready: Callable[[], None],
    ) -> None:
        self._library = library
        self._clock = clock
        self._settings = settings
        self._look = look
        self._on_ready = on_ready
        self._lock = threading.Lock()
        self._handles: dict[int, OpenInvoice | tuple[Entry, ...]] = {}
        self._next_handle = 1
        self._told: dict[str, _Told] = {}

    def __call__(self, operation: str, *arguments: Any) -> Any:
        """Carry out an operation; raises `OSError` with an errno and nothing else."""
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s of %s", operation, _subject(arguments))
        try:
            return getattr(self, operation)(*arguments)
        except InvoicefsError as error:
            code = errno_of(error)
            if _is_worth_a_line(operation, error):
                log.warning("%s: %s (%s)", _subject(arguments), error, errno.errorcode[code])
            raise OSError(code, os.strerror(code)) from None
        except MemoryError:
            log.warning("%s: there is no memory left", _subject(arguments))
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from None
        except Exception:
            log.exception("Unexpected failure of %s", operation)
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from None

    def init(self, _path: str) -> None:
        """Report that the mount is usable; the kernel calls this once."""
        self._on_ready()

    def getattr(self, path: str | None, handle: int | None = None) -> dict[str, int]:
        """Answer ``stat`` and ``fstat``."""
        if handle is not None:
            return self._stat(self._library.open_attributes(self._opened(handle)))
        assert path is not None  # without a handle libfuse always has a path
        return self._stat(self._tell(path))

    def _tell(self, path: str) -> Attributes:
        """Answer a LOOKUP or a GETATTR, which libfuse does not tell apart.

        While the kernel waits for a LOOKUP it lets nobody else look into that folder (measured:
        an ``ls`` beside a hanging one took as long). So the first one of a name waits for no
        download; ``stat`` asks again at once, because of ``attr_timeout=0``, and that waits.
        """
        told = self._told.get(path)
        now_s = self._clock.monotonic_s()
        if told is not None and now_s - told.looked_up_s < _LOOKUP_LASTS_S:
            attributes = self._library.attributes(path)
            self._told[path] = _Told(attributes.size_bytes, told.looked_up_s)
        else:
            attributes = self._library.lookup(path)
            self._told[path] = _Told(attributes.size_bytes, self._clock.monotonic_s())
        return attributes

    def _was_told(self, path: str, size_bytes: int) -> bool:
        told = self._told.get(path)
        return told is not None and told.size_bytes == size_bytes

    def opendir(self, path: str) -> int:
        """List a directory once for all reads of it, so that only opening it can fail."""
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
        """Bring the whole content, pinned to the handle."""
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise ReadOnly("the folder is read-only")
        opened = self._library.open(path)
        try:
            self._have_kernel_know(path, opened)
        except Exception:
            self._library.release(opened)
            raise
        return self._keep(opened)

    def _have_kernel_know(self, path: str, opened: OpenInvoice) -> None:
        """Make sure that the kernel knows the size of what has been opened.

        A program that reads without asking for the size would else rely on short reads to find
        the end, and when two of them overtake each other the kernel fills up with zeros what lies
        between (measured: one file in a hundred).
        """
        size_bytes = len(opened.content.pdf)
        if opened.is_young or not self._was_told(path, size_bytes):
            self._look(_encoded(path))
        if not self._was_told(path, size_bytes):
            # The mount point does not lead here, after a lazy unmount for example.
            raise Outdated("the kernel has not asked for the size")

    def read(self, _path: str | None, size: int, offset: int, handle: int) -> bytes:
        """Serve a slice of the content of a handle; it cannot fail."""
        pdf = self._opened(handle).content.pdf
        return pdf[offset : offset + size]

    def release(self, _path: str | None, handle: int) -> None:
        """Give back the content of a handle."""
        opened = self._forget(handle)
        if isinstance(opened, OpenInvoice):
            self._library.release(opened)

    def statfs(self, _path: str) -> dict[str, int]:
        """Answer ``df``: what is known of the sizes, and nothing free."""
        usage = self._library.usage()
        return {
            "f_bsize": BLOCK_SIZE_BYTES,
            "f_frsize": BLOCK_SIZE_BYTES,
            "f_blocks": -(-usage.size_bytes // BLOCK_SIZE_BYTES),
            "f_files": usage.files,
            "f_namemax": NAME_MAX_BYTES,
        }

    def _refuse_change(self, *_: object) -> None:
        """Every operation that would change something: also where root remounts with ``rw``."""
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


class DescribingFilesystem(InvoiceFilesystem):
    """The same with extended attributes, which nobody can change."""

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


def load_binding() -> Any:
    """The Python binding of libfuse 2, and the library; raises `UserError` without them."""
    try:
        import fuse  # loads libfuse, or whatever else FUSE_LIBRARY_PATH names
    except (ImportError, OSError, AttributeError) as error:
        raise UserError(f"libfuse 2 cannot be loaded: {error}.") from error
    if not hasattr(fuse, "FUSE"):
        raise UserError(
            f"{fuse.__file__} is not that of fusepy: {sys.executable} -m pip install fusepy"
        )
    return fuse


def serve(filesystem: InvoiceFilesystem, mount_point: str, options: Mapping[str, Any]) -> None:
    """Mount, and serve the kernel until the folder is unmounted or a signal ends it.

    Raises `UserError` where libfuse 2 cannot be loaded, and `RuntimeError` where it cannot
    mount; libfuse itself says why, on stderr.
    """
    fuse = load_binding()
    # The kernel's paths are bytes. fusepy decodes them strictly and would answer EINVAL for one
    # that is not UTF-8, where a name that nothing has is ENOENT.
    codecs.register(_path_codec)
    options = {name: _as_path(each) for name, each in options.items()}
    fuse.FUSE(filesystem, _as_path(mount_point), foreground=True, encoding=_PATH_CODEC, **options)


def _dirent(entry: Entry) -> tuple[str, dict[str, int], int]:
    """An entry for libfuse, which takes no more than ``d_ino`` and ``d_type`` from the stat."""
    kind = stat.S_IFDIR if entry.is_directory else stat.S_IFREG
    return entry.name, {"st_ino": entry.inode, "st_mode": kind}, 0


def _path_codec(name: str) -> codecs.CodecInfo | None:
    """UTF-8 that carries other bytes through as lone surrogates, like `os.fsdecode`."""
    if name != _PATH_CODEC:
        return None
    return codecs.CodecInfo(
        name=_PATH_CODEC,
        encode=lambda text, _errors="strict": (_encoded(text), len(text)),
        decode=lambda data, _errors="strict": (
            bytes(data).decode("utf-8", "surrogateescape"),
            len(data),
        ),
    )


def _as_path(value: Any) -> Any:
    """A text of the command line as our codec has it, so that its bytes stay in every locale."""
    return os.fsencode(value).decode("utf-8", "surrogateescape") if type(value) is str else value


def _encoded(path: str) -> bytes:
    """A path as the kernel has it."""
    return path.encode("utf-8", "surrogateescape")


def _is_worth_a_line(operation: str, error: InvoicefsError) -> bool:
    """Whether somebody would want to know: probing for names is no failure."""
    is_probing = isinstance(error, NotFound) and operation != "open"
    return not (is_probing or isinstance(error, Outdated | NameTooLong | NoAttribute))


def _subject(arguments: tuple[Any, ...]) -> str:
    """What an operation is about, for the log."""
    return arguments[0] if arguments and arguments[0] else "an open file"
