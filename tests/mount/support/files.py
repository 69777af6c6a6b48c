"""What programs see of files: attributes, and the bytes of a copy."""

from dataclasses import dataclass
from pathlib import Path

from tests.mount.support.programs import run

UPPER_BOUND_BYTES = 16 * 1024 * 1024  # --max-pdf-size


@dataclass(frozen=True)
class Stat:
    """The output of ``stat`` that depends on the content of a file, and its inode."""

    size: int
    blocks: int
    inode: int
    mtime: str
    ctime: str


def stat_of(*paths: Path) -> list[Stat]:
    lines = run("stat", "--format=%s %b %i %y/%z", *paths).good().lines
    return [
        Stat(int(size), int(blocks), int(inode), *times.split("/"))
        for size, blocks, inode, times in (line.split(maxsplit=3) for line in lines)
    ]


def in_folder(folder: Path) -> dict[str, bytes]:
    """Return the content of each file in a folder that is not a mount."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
