"""Makes a copy of a folder for ``rsync`` without reading its files; as a program.

    python -m tests.bench.mirrored FOLDER COPY

The files of COPY are empty on disk, but have the sizes, times and modes that FOLDER shows, by which
``rsync -a`` decides whether there is something to transfer.
"""

import os
import sys
from pathlib import Path


def main(folder: Path, copy: Path) -> None:
    """Make the copy."""
    copy.mkdir()
    for name in os.listdir(folder):
        _make(copy / name, os.stat(folder / name))
    shown = os.stat(folder)
    os.utime(copy, ns=(shown.st_atime_ns, shown.st_mtime_ns))


def _make(path: Path, shown: os.stat_result) -> None:
    with open(path, "wb") as file:
        file.truncate(shown.st_size)
        os.fchmod(file.fileno(), shown.st_mode)
        os.utime(file.fileno(), ns=(shown.st_atime_ns, shown.st_mtime_ns))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
