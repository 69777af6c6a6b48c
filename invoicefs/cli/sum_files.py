"""Files with SHA-256 sums, in the format of ``sha256sum -c``; see sha256sum(1)."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from invoicefs.errors import UserError

_LINE: Final = re.compile(r"(\\?)([0-9a-f]{64}) [ *](.+)", re.DOTALL)
_ESCAPES: Final = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}
_ESCAPED: Final = re.compile(r"\\[\\nr]")


def sum_lines(sums: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of a file with the SHA-256, in hex, of each path."""
    for path in sorted(sums):
        escaped = "".join(_ESCAPES.get(character, character) for character in path)
        mark = "" if escaped == path else "\\"
        yield f"{mark}{sums[path]}  {escaped}\n"


def read_sums(file: Path) -> dict[str, str]:
    """Return the sums in a regular file, by their paths, or none if it does not exist.

    Lines of another form are ignored. Raises `UserError` if it cannot be read.
    """
    if not file.is_file():
        return {}
    try:
        text = file.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from error
    matches = filter(None, map(_LINE.fullmatch, text.split("\n")))
    return {_path_in(match): match[2] for match in matches}


def _path_in(match: re.Match[str]) -> str:
    if not match[1]:
        return match[3]
    originals = {escape: character for character, escape in _ESCAPES.items()}
    return _ESCAPED.sub(lambda found: originals[found[0]], match[3])
