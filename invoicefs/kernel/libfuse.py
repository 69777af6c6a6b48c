"""libfuse 2: loading it, mount options, and serving the kernel."""

import codecs
import os
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from invoicefs.errors import UserError
from invoicefs.kernel.filesystem import InvoiceFilesystem
from invoicefs.kernel.recent_requests import ON_STAT_ENTRY_TIMEOUT_S
from invoicefs.names import path_bytes, path_text
from invoicefs.settings import Fetch, Settings

_NEVER_S = 10**9
_ENTRY_TIMEOUT_S = 60
_PATH_CODEC = "invoicefs_path"


def load_binding() -> ModuleType:
    """Return `fuse_binding`; raises `UserError` if fusepy or libfuse 2 cannot be loaded."""
    try:
        # Loads libfuse, or the library that FUSE_LIBRARY_PATH names.
        from invoicefs.kernel import fuse_binding
    except (ImportError, OSError, AttributeError) as error:
        raise UserError(_why_not_loaded(error)) from error
    return fuse_binding


def _why_not_loaded(error: Exception) -> str:
    # Without `--force-reinstall`, pip does not replace a file that another project has overwritten.
    install = (
        f"Install it: {sys.executable} -m pip install --force-reinstall fusepy, "
        "or apt install python3-fusepy."
    )
    module = "fusepy" if find_spec("fusepy") else "fuse"
    if isinstance(error, ModuleNotFoundError) and error.name == module == "fuse":
        return f"The Python library fusepy is missing. {install}"
    # fusepy itself is not among the modules if libfuse 2 could not be loaded.
    if isinstance(error, ImportError) or module in sys.modules:
        place = _place_of(module)
        return f"{place} does not belong to fusepy, but to another project. {install}"
    return f"libfuse 2 cannot be loaded: {error}."


def _place_of(module: str) -> str:
    """Return the file of a module, or the folder of one that is only a folder."""
    spec = find_spec(module)
    if spec is None:
        return module
    return spec.origin or next(iter(spec.submodule_search_locations or ()), module)


def serve(
    filesystem: InvoiceFilesystem, mount_point: str, settings: Settings, *, source: str
) -> None:
    """Mount, and serve the kernel until the folder is unmounted or a signal arrives.

    `source` is the name that ``df`` and ``mount`` show. Raises `UserError` if libfuse 2 cannot be
    loaded or cannot mount; in the latter case libfuse prints the reason to stderr.
    """
    binding = load_binding()
    # The kernel's paths are bytes. fusepy decodes them strictly and would return EINVAL for a path
    # that is not UTF-8; the right error for a name that does not exist is ENOENT.
    codecs.register(_path_codec)
    options = {name: _as_path(value) for name, value in _options(settings, source).items()}
    try:
        binding.Binding(
            filesystem, _as_path(mount_point), settings, encoding=_PATH_CODEC, **options
        )
    except RuntimeError as error:
        raise UserError(
            f"libfuse could not mount {mount_point} (it ended with {error})."
        ) from error


def _options(settings: Settings, source: str) -> dict[str, bool | float | str]:
    """Return the mount options, see mount.fuse(8).

    `entry_timeout` is how long the kernel uses a name without a LOOKUP. It can be long because a
    name always refers to the same invoice, and every ``stat`` and open reaches the mount anyway.
    `attr_timeout` is 0 because with 1 s ``tar`` still got the size from before the download
    (measured). `auto_cache` invalidates the page cache when size or mtime has changed since the
    last ``stat``. `ac_attr_timeout` is the age at which an open would ask for them again, which is
    never needed: every version has been applied before an open ends, see `applied_sizes`.
    `noforget` keeps inodes that the kernel has forgotten: an NFS server knows files only by them
    (measured: without it, NFS clients got ESTALE whenever the kernel was short of memory).
    """
    is_on_stat = settings.fetch is Fetch.ON_STAT
    options: dict[str, bool | float | str] = {
        "ro": True,
        "nosuid": True,
        "nodev": True,
        "entry_timeout": ON_STAT_ENTRY_TIMEOUT_S if is_on_stat else _ENTRY_TIMEOUT_S,
        "attr_timeout": 0,
        "auto_cache": True,
        "ac_attr_timeout": _NEVER_S,
        "use_ino": True,
        "auto_unmount": True,
        "fsname": source.replace("\\", "\\\\").replace(",", "\\,"),
        "subtype": "invoicefs",
    }
    if settings.allow_other:
        # Only `default_permissions` makes the kernel check permission bits; it costs an upcall per
        # path component.
        options |= {"allow_other": True, "default_permissions": True, "noforget": is_on_stat}
    return options


def _path_codec(name: str) -> codecs.CodecInfo | None:
    """Return the codec of `names.path_bytes`, for fusepy."""
    if name != _PATH_CODEC:
        return None
    return codecs.CodecInfo(
        name=name,
        encode=lambda text, _errors="strict": (path_bytes(text), len(text)),
        decode=lambda data, _errors="strict": (path_text(bytes(data)), len(data)),
    )


def _as_path(value: Any) -> Any:
    """Return command-line text as `_path_codec` decodes it, to keep its bytes in any locale."""
    return path_text(os.fsencode(value)) if type(value) is str else value
