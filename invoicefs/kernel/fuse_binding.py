"""The binding to libfuse 2: how it is loaded, mount options, and paths as bytes.

The only importer of ``fuse`` (fusepy), which loads libfuse when it is imported.
"""

import codecs
import os
import sys
from typing import Any

from invoicefs.errors import UserError
from invoicefs.kernel.filesystem import InvoiceFilesystem
from invoicefs.settings import Settings

_PATH_CODEC = "invoicefs_path"


def load_binding() -> Any:
    """Return the Python binding of libfuse 2; raises `UserError` if it cannot be loaded."""
    try:
        import fuse  # loads libfuse, or whatever else FUSE_LIBRARY_PATH names
    except (ImportError, OSError, AttributeError) as error:
        raise UserError(f"libfuse 2 cannot be loaded: {error}.") from error
    if not hasattr(fuse, "FUSE"):
        raise UserError(
            f"{fuse.__file__} is not that of fusepy: {sys.executable} -m pip install fusepy"
        )
    return fuse


def serve(
    filesystem: InvoiceFilesystem, mount_point: str, settings: Settings, *, source: str
) -> None:
    """Mount, and serve the kernel until the folder is unmounted or a signal ends it.

    `source` is what ``df`` and ``mount`` show. Raises `UserError` if libfuse 2 cannot be loaded or
    cannot mount; libfuse itself says why, on stderr.
    """
    fuse = load_binding()
    # The kernel's paths are bytes. fusepy decodes them strictly and would answer EINVAL for one
    # that is not UTF-8, where a name that does not exist is ENOENT.
    codecs.register(_path_codec)
    options = {name: _as_path(value) for name, value in _options(settings, source).items()}
    try:
        fuse.FUSE(
            filesystem, _as_path(mount_point), foreground=True, encoding=_PATH_CODEC, **options
        )
    except RuntimeError as error:
        raise UserError(
            f"libfuse could not mount {mount_point} (it ended with {error})."
        ) from error


def encoded(path: str) -> bytes:
    """Return a path as the kernel has it."""
    return path.encode("utf-8", "surrogateescape")


def _options(settings: Settings, source: str) -> dict[str, bool | int | str]:
    """Return the mount options, see mount.fuse(8).

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
        # Permission bits only mean anything with this; it costs an upcall per path component.
        options |= {"allow_other": True, "default_permissions": True}
    return options


def _path_codec(name: str) -> codecs.CodecInfo | None:
    """UTF-8 that carries other bytes through as lone surrogates, like `os.fsdecode`."""
    if name != _PATH_CODEC:
        return None
    return codecs.CodecInfo(
        name=_PATH_CODEC,
        encode=lambda text, _errors="strict": (encoded(text), len(text)),
        decode=lambda data, _errors="strict": (
            bytes(data).decode("utf-8", "surrogateescape"),
            len(data),
        ),
    )


def _as_path(value: Any) -> Any:
    """Return text of the command line as our codec has it, so its bytes stay in every locale."""
    return os.fsencode(value).decode("utf-8", "surrogateescape") if type(value) is str else value
