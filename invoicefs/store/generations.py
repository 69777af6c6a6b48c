"""The folders of a database, numbered: `NAME-1`, and `NAME-2` once that is corrupt, and so on.

A path is never reused, because SQLite connections of other threads and mounts that are still open
on a corrupt database delete its -wal by path when they close.
"""

import shutil
from pathlib import Path


class Generations:
    """The folders `NAME-1`, `NAME-2`, ... in a parent folder."""

    def __init__(self, parent: Path, name: str) -> None:
        self._parent = parent
        self._name = name

    def folder(self, number: int) -> Path:
        """Return the folder of a generation."""
        return self._parent / f"{self._name}-{number}"

    def newest(self) -> int:
        """Return the highest number that exists, or 1."""
        return max(self._existing(), default=1)

    def remove_before(self, number: int) -> None:
        """Remove the folders of earlier generations, as far as possible."""
        for older in self._existing():
            if older < number:
                shutil.rmtree(self.folder(older), ignore_errors=True)

    def _existing(self) -> list[int]:
        try:
            found = [path.name.rpartition("-") for path in self._parent.iterdir()]
        except OSError:  # of which the caller hears when it opens the database
            return []
        return [
            int(number) for name, _, number in found if name == self._name and number.isdecimal()
        ]
