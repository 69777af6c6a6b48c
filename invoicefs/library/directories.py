"""The parts of a path, and the entries and attributes of directories."""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from invoicefs.errors import NameTooLong
from invoicefs.model import BLOCK_BYTES, Attributes, namespace_inode
from invoicefs.names import NAME_MAX_BYTES, directory_name, is_too_long

DIRECTORY_BYTES = 4096

_SHORTEST_TOO_LONG: Final = NAME_MAX_BYTES // 4  # a character has at most four bytes


class Entry(Protocol):
    """A name in a directory, such as an `Invoice`."""

    @property
    def file_name(self) -> str:
        """The name."""

    @property
    def inode(self) -> int:
        """The inode of the file or directory with this name."""


class NamespaceEntry(NamedTuple):
    """The name of a namespace in the root."""

    file_name: str
    inode: int

    @classmethod
    def of(cls, namespace: str) -> "NamespaceEntry":
        """Return the entry of a namespace."""
        return cls(directory_name(namespace) or namespace, namespace_inode(namespace))


class Directory(NamedTuple):
    """The names in a directory, without ``.`` and ``..``, ordered by inode.

    They are either all directories or all files.
    """

    entries: Sequence[Entry]
    has_directories: bool


def path_parts(path: str) -> list[str]:
    """Return the names in a path; raises `NameTooLong` if one exceeds 255 bytes."""
    parts = [part for part in path.split("/") if part]
    if len(path) >= _SHORTEST_TOO_LONG and any(map(is_too_long, parts)):
        raise NameTooLong("the name is longer than 255 bytes")
    return parts


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
