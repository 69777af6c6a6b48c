"""Maintenance of the stores on disk, whether or not mounts are using them.

A PDF that is removed here is downloaded again: a mount verifies everything that it loads.
"""

import os
import re
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from invoicefs.clock import SystemClock
from invoicefs.errors import StoreUnusable, UserError
from invoicefs.store.store import Store, open_store, store_folder
from invoicefs.units import GIB

_PARTS: Final = re.compile(r"(pdf|meta)-\d+")
_JOURNALS: Final = ("-wal", "-shm", "-journal")
_BLOCK_BYTES: Final = 512  # the unit of st_blocks, see stat(2)


@dataclass(frozen=True, slots=True)
class Usage:
    """The size of a store: the number of PDFs, and bytes on disk in total and for the PDFs."""

    folder: Path
    pdf_count: int
    size_bytes: int
    pdf_bytes: int


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """How many PDFs of a store are whole, and how many were corrupt."""

    folder: Path
    whole: int
    corrupt: int


def stores(cache_dir: Path, url: str | None) -> tuple[Path, ...]:
    """Return the folders of all stores, or the one of a URL; raises `UserError` if it has none."""
    if url is None:
        return tuple(filter(_is_store, sorted(cache_dir.iterdir()))) if cache_dir.is_dir() else ()
    folder = store_folder(cache_dir, url)
    if not _is_store(folder):
        raise UserError(f"There is no cache of {url} in {cache_dir}.")
    return (folder,)


def usage(folder: Path) -> Usage:
    """Return the size of a store; raises `StoreUnusable` if it cannot be read."""
    with _opened(folder) as store:
        digests = store.digests()
        store.checkpoint()
    if digests is None:
        raise StoreUnusable(f"The cache {folder} cannot be read now.")
    sizes = {part: _size_bytes(part) for part in folder.iterdir() if _PARTS.fullmatch(part.name)}
    pdf_bytes = sum(size for part, size in sizes.items() if part.name.startswith("pdf-"))
    return Usage(folder, len(digests), sum(sizes.values()), pdf_bytes)


def verify(folder: Path, *, is_dry: bool) -> VerifyResult:
    """Check all PDFs, and remove corrupt ones, unless `is_dry`; raises `StoreUnusable`."""
    with _opened(folder) as store:
        counts = store.remove_corrupt(is_dry=is_dry)
    if counts is None:
        raise StoreUnusable(f"The cache {folder} cannot be read now.")
    return VerifyResult(folder, *counts)


def clear(folder: Path, *, everything: bool) -> None:
    """Remove all PDFs and, if `everything`, all other values; raises `StoreUnusable`."""
    with _opened(folder) as store:
        is_clear = store.clear(everything=everything)
    if not is_clear:
        raise StoreUnusable(f"The cache {folder} cannot be cleared now: try again.")


def _opened(folder: Path) -> "closing[Store]":
    store = open_store(folder, GIB, SystemClock())  # the limit only matters to writers
    if store.failure:
        raise StoreUnusable(f"The cache {folder} cannot be used now: {store.failure}.")
    return closing(store)


def _is_store(folder: Path) -> bool:
    try:
        return any(_PARTS.fullmatch(part.name) for part in folder.iterdir())
    except OSError:  # not a folder, or not readable
        return False


def _size_bytes(folder: Path) -> int:
    """Return the bytes that a folder uses, without the journals, which a checkpoint empties."""
    # `rglob` would fail if a mount removes a folder that is about to be listed.
    paths = (
        os.path.join(parent, name)
        for parent, folders, files in os.walk(folder)
        for name in (*folders, *files)
    )
    return sum(_allocated_bytes(path) for path in paths if not path.endswith(_JOURNALS))


def _allocated_bytes(path: str) -> int:
    try:
        return os.lstat(path).st_blocks * _BLOCK_BYTES
    except OSError:  # a mount has just removed it
        return 0
