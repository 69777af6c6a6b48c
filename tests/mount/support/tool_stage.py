"""A mount with files enough that each of many tools is the first to open one."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from random import Random

from invoicefs.sandbox import Endpoint, SampleInvoice, SampleNamespace, SampleTenant, Sandbox
from invoicefs.sandbox.pdfs import LineItem, Statement, invoice_pdf
from tests.mount.support.mounts import Mount
from tests.mount.support.programs import Ended, missing, run
from tests.mount.support.tenants import contents

UPPER_BOUND_BYTES = 16 * 1024 * 1024
SERVICE = "Customer edge sites"

# Subjects. One byte beyond a page, one beyond the kernel's reads of 128 KiB, and far beyond both.
FILES = ("4097", "131073", "1500001")
PAGES = ("page", "pages")
FOLDER = "folder"
_COPIES_OF_EACH = 300  # more than there are tests of any of them

_NOT_FOUND = 127  # so ``sh`` and ``env`` end where a program is missing

# So that no desktop daemon is asked or started, and no settings of the user's are read.
_ENVIRONMENT = {"GIO_USE_VFS": "local", "RCLONE_CONFIG": "/dev/null"}

_END = b"%%EOF\n"

Copies = Mapping[str, bytes]


# What there is to copy.


def _blocks(size_bytes: int) -> bytes:
    """Begins and ends like a PDF, and all its pages differ but for some holes."""
    numbers = Random(size_bytes)  # noqa: S311 # the same on every run
    parts = [b"%PDF-1.4\n"]
    for _ in range(0, size_bytes, 60_000):
        parts += [numbers.randbytes(3000), bytes(9000), numbers.randbytes(50_000)]
    return b"".join(parts)[: size_bytes - len(_END)] + _END


def _statement(lines: int) -> bytes:
    items = tuple(LineItem(f"{SERVICE} {number}", 1, number) for number in range(lines))
    return invoice_pdf(Statement("invoice-1", "acme", "2026-08", "paid", "USD", items))


@cache
def _invoices(subject: str) -> tuple[SampleInvoice, ...]:
    if subject == FOLDER:
        return tuple(each for one in (*FILES, *PAGES) for each in _invoices(one))
    lines = dict(zip(PAGES, (3, 400), strict=True))  # 400 are longer than one read
    pdf = _statement(lines[subject]) if subject in lines else _blocks(int(subject))
    return (SampleInvoice(f"invoice-{subject}", pdf),)


@cache
def everything() -> SampleTenant:
    """All subjects, each many times.

    Each in a namespace of its own, because read-ahead would download the neighbours of a file.
    """
    subjects = (*FILES, *PAGES, FOLDER)
    return SampleTenant(
        "acme",
        tuple(
            SampleNamespace(f"{subject}-{number}", _invoices(subject))
            for subject in subjects
            for number in range(_COPIES_OF_EACH)
        ),
    )


@dataclass(frozen=True)
class Place:
    """What a tool works on, a file of the mount or a folder of them, and where it may write."""

    folder: Path
    room: Path

    @property
    def expected(self) -> Copies:
        """What the server has."""
        return contents(everything(), self.folder.name)

    @property
    def name(self) -> str:
        """The name of the file, or of the folder as one says it inside."""
        return next(iter(self.expected)) if len(self.expected) == 1 else "."

    @property
    def source(self) -> Path:
        """The file, or the folder."""
        return self.folder / self.name

    @property
    def target(self) -> Path:
        """An empty folder for copies."""
        return self.room / "copies"

    @property
    def archive(self) -> Path:
        """A file that does not exist."""
        return self.room / "archive.tar"

    @property
    def ordinary_source(self) -> Path:
        """The same as the source, on an ordinary filesystem."""
        return self.room / "ordinary" / self.name

    def prepare(self) -> None:
        """Make the folders in the room."""
        ordinary = self.room / "ordinary"
        self.target.mkdir()
        ordinary.mkdir()
        for name, pdf in self.expected.items():
            (ordinary / name).write_bytes(pdf)

    def run(self, *words: str) -> Ended:
        """Run a program, with paths in place of the words that stand for them."""
        paths = {
            "SOURCE": self.source,
            "FOLDER": self.folder,
            "NAME": Path(self.name),
            "TARGET": self.target,
            "ARCHIVE": self.archive,
            "ORDINARY": self.ordinary_source,
        }
        argv = (re.sub("|".join(paths), lambda found: str(paths[found[0]]), word) for word in words)
        ended = run(*argv, env=_ENVIRONMENT)
        if ended.code == _NOT_FOUND:
            missing(ended.err.strip())
        return ended

    def differences(self, copies: Copies) -> list[str]:
        """What is wrong with copies, in words because the bytes would be megabytes."""
        names = sorted({*copies, *self.expected})
        pairs = [(name, copies.get(name), self.expected.get(name)) for name in names]
        return [f"{name}: {_difference(*pair)}" for name, *pair in pairs if pair[0] != pair[1]]


def _difference(copy: bytes | None, expected: bytes | None) -> str:
    if copy is None or expected is None:
        return "missing" if copy is None else "invented"
    pairs = enumerate(zip(copy, expected, strict=False))
    alike = next((place for place, (a, b) in pairs if a != b), min(len(copy), len(expected)))
    return f"{len(copy)} bytes of {len(expected)}, the same up to {alike}"


class Stage:
    """A mount of everything."""

    def __init__(self, sandbox: Sandbox, mount: Mount) -> None:
        self._sandbox = sandbox
        self._mount = mount
        self._numbers: defaultdict[str, Iterator[int]] = defaultdict(count)

    def never_looked_at(self, subject: str, room: Path) -> Place:
        """A file that nobody has looked at yet, or a folder of them."""
        place = Place(self._mount / f"{subject}-{next(self._numbers[subject])}", room)
        place.prepare()
        return place

    def never_opened(self, subject: str, room: Path) -> Place:
        """A file that nobody has opened yet, or a folder of them."""
        place = self.never_looked_at(subject, room)
        found = run("find", place.folder, "-type", "f", "-printf", "%s %b\n").good().lines
        assert found == [f"{UPPER_BOUND_BYTES} 0"] * len(place.expected)
        assert self.pdf_calls(place) == 0
        return place

    def downloaded(self, subject: str, room: Path) -> Place:
        """The same after it was read once."""
        place = self.never_opened(subject, room)
        run("cat", *(place.folder / name for name in place.expected)).good()
        return place

    def pdf_calls(self, place: Place) -> int:
        """How many PDFs of this place were asked for."""
        return self._sandbox.count(Endpoint.PDF, place.folder.name)
