"""The position of the readers in the schedule of a round, which the stat callers follow.

It is a number in a file that all processes map. The last reader to write it wins: they are close
together, because the first one waits for a download, and the others catch up meanwhile.
"""

import mmap
import struct
from pathlib import Path

_FORMAT = "q"
_BYTES = struct.calcsize(_FORMAT)


class Position:
    """A number that processes share, by the path of its file."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _BYTES)

    @staticmethod
    def create(path: Path) -> None:
        """Create the file, with the number 0."""
        path.write_bytes(bytes(_BYTES))

    def get(self) -> int:
        """Return the number."""
        (number,) = struct.unpack_from(_FORMAT, self._map)
        assert isinstance(number, int)
        return number

    def set(self, number: int) -> None:
        """Replace the number."""
        struct.pack_into(_FORMAT, self._map, 0, number)
