"""Random arguments for system calls on a small tree, most of them valid and some odd.

Parameters are annotated with their kind, for example ``slot: Slot``, and the annotation contains
the function that draws a value.
"""

import os
from collections.abc import Callable
from random import Random
from typing import Annotated, Any

Draw = Callable[[Random], Any]

TREE = {
    "system": tuple(f"invoice-2020-{month:02}.pdf" for month in range(1, 11)),
    "shared": ("two words.pdf", "\u00fcber\U0001f4c4.pdf", f"{'x' * 251}.pdf", "a.pdf.pdf"),
    "empty": (),
}

_FILES = tuple(f"{folder}/{name}" for folder, names in TREE.items() for name in names)
_FOLDERS = ("", *TREE)
_ODD_FOLDERS = ("nowhere", "System", ".Trash", "-dash-", "two words", "x" * 255, "\udcff\udcfe")
_ODD_NAMES = (
    "",
    "missing.pdf",
    "Invoice-2020-01.pdf",
    "invoice-2020-01.PDF",
    "invoice-2020-01",
    "invoice-2020-01.pdf~",
    ".hidden",
    ".invoice.pdf",
    "a%2Fb.pdf",
    "%.pdf",
    ".pdf",
    "\x01\n.pdf",
    "\udcff\udcfe.pdf",
    "...",
    f"{'y' * 251}.pdf",
    f"{'y' * 252}.pdf",
    f"{'y' * 253}.pdf",
    "z" * 2000,
)
_PATH_MAX = 4096

SLOTS = range(8)
_LENGTHS = (0, 1, 7, 511, 512, 4095, 4096, 4097, 65_536, 131_072, 131_073, 400_000, 2_000_000)
OFFSETS = (0, 1, 99, 100, 4095, 4096, 4097, 131_071, 131_072, 1_500_000, 2**31, 2**40, 2**63 - 1)
_OPEN_FLAGS = (
    *("O_CREAT", "O_EXCL", "O_TRUNC", "O_APPEND", "O_DIRECTORY", "O_NOFOLLOW", "O_PATH"),
    *("O_TMPFILE", "O_NOATIME", "O_NONBLOCK", "O_SYNC", "O_DSYNC", "O_NOCTTY", "O_CLOEXEC"),
)


def one_of(*values: object) -> Draw:
    """Draw any of these values."""
    return lambda random: random.choice(values)


def some_of(*names: str) -> Draw:
    """Draw at most two of these flags, written as in a program."""
    return lambda random: "|".join(random.sample(names, random.randrange(3))) or "0"


def some_number(*special: int, below: int) -> Draw:
    """Draw one of these numbers, or any number below the limit."""
    return lambda random: random.choice((random.choice(special), random.randrange(below)))


def some_numbers(*special: int) -> Draw:
    """Draw one to three of these numbers."""
    return lambda random: random.choices(special, k=random.randrange(1, 4))


def some_open_flags(random: Random) -> str:
    """Draw flags, mostly read-only."""
    (access,) = random.choices(("O_RDONLY", "O_WRONLY", "O_RDWR"), (8, 1, 1))
    (count,) = random.choices(range(4), (10, 5, 2, 1))
    return "|".join((access, *random.sample(_OPEN_FLAGS, count)))


def some_path(random: Random) -> bytes:
    """Draw a path, often the absolute path of a file."""
    (draw,) = random.choices((_valid_path, _odd_path, _path_in_odd_folder), (7, 2, 1))
    path = draw(random)
    padding = "/" * (_PATH_MAX - 2 - len(os.fsencode(path)))  # a NUL ends the path
    spellings = (
        path,
        path.rpartition("/")[2],
        f"../{path}",
        f"//./{path.replace('/', '//')}",
        f"/nowhere/../{path}",
        f"/system/../{path}",
        f"/{path}/",
        f"/{path}/.",
        f"/{path}/..",
        f"/{path}/../..",
        f"/{path}/below.pdf",
        f"/{padding}{path}",
        f"//{padding}{path}",
    )
    is_plain = random.random() < 0.7
    return os.fsencode(f"/{path}" if is_plain else random.choice(spellings))


def _valid_path(random: Random) -> str:
    return random.choice(random.choices((_FILES, _FOLDERS), (4, 1))[0])


def _odd_path(random: Random) -> str:
    return f"{random.choice(_FOLDERS)}/{random.choice(_ODD_NAMES)}"


def _path_in_odd_folder(random: Random) -> str:
    return f"{random.choice(_ODD_FOLDERS)}/{random.choice((*_ODD_NAMES, *TREE['system']))}"


Slot = Annotated[int, one_of(*SLOTS)]
Base = Annotated[int | None, one_of(*SLOTS, *(None for _ in SLOTS))]
Path = Annotated[bytes, some_path]
OpenFlags = Annotated[str, some_open_flags]
Length = Annotated[int, some_number(*_LENGTHS, below=10_000)]
Lengths = Annotated[list[int], some_numbers(*_LENGTHS[1:])]
Offset = Annotated[int, some_number(*OFFSETS, -1, -4096, below=320_000)]
Mode = Annotated[int, one_of(0o000, 0o444, 0o644, 0o755, 0o4755, 0o1777)]
Access = Annotated[str, some_of("R_OK", "W_OK", "X_OK")]
Truth = Annotated[bool, one_of(False, True)]
Id = Annotated[int, one_of(-1, 0, 1, 65_534)]
Attribute = Annotated[str, one_of("user.note", "user.invoicefs.status", "trusted.x", "bad")]
