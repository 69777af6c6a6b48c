"""The parts of a path, and the entries and attributes of directories."""

from dataclasses import dataclass

from invoicefs.errors import NameTooLong
from invoicefs.model import BLOCK_BYTES, Attributes, namespace_inode
from invoicefs.names import directory_name, is_too_long

DIRECTORY_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a directory."""

    name: str
    inode: int
    is_directory: bool = False


def path_parts(path: str) -> list[str]:
    """Return the names in a path; raises `NameTooLong` if one exceeds 255 bytes."""
    parts = [part for part in path.split("/") if part]
    if any(map(is_too_long, parts)):
        raise NameTooLong("the name is longer than 255 bytes")
    return parts


def namespace_entry(namespace: str) -> Entry:
    """Return the entry of a namespace in the root."""
    name = directory_name(namespace) or namespace
    return Entry(name, namespace_inode(namespace), is_directory=True)


def directory_attributes(inode: int, mtime_ns: int, links: int) -> Attributes:
    """Return what ``stat`` shows for a directory."""
    return Attributes(
        inode=inode,
        mtime_ns=mtime_ns,
        is_directory=True,
        size_bytes=DIRECTORY_BYTES,
        blocks=DIRECTORY_BYTES // BLOCK_BYTES,
        links=links,
    )
