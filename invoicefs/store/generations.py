"""The numbered folders of a database: `NAME-1`, then `NAME-2` once the first is corrupt, and so on.

A path is never reused: other threads and mounts may still have open SQLite connections to the
corrupt database, which delete its -wal by path when they close.
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
        """Return the number of the newest existing folder, or 1 if there is none."""
        return max(self._existing(), default=1)

    def remove_before(self, number: int) -> None:
        """Remove the folders of earlier generations, as far as possible."""
        for older in self._existing():
            if older < number:
                shutil.rmtree(self.folder(older), ignore_errors=True)

    def _existing(self) -> list[int]:
        try:
            found = [path.name.rpartition("-") for path in self._parent.iterdir()]
        except OSError:  # the caller gets the same error when it opens the database
            return []
        return [
            int(number) for name, _, number in found if name == self._name and number.isdecimal()
        ]
