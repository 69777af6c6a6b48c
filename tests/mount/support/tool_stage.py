"""A mount with enough files for each of many tools to be the first to open one."""

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
from tests.mount.support.files import UPPER_BOUND_BYTES
from tests.mount.support.mounts import Mount
from tests.mount.support.programs import Ended, missing, run
from tests.mount.support.tenants import contents

SERVICE = "Customer edge sites"

# Subjects: one byte more than a read of the kernel (128 KiB), and much more.
FILES = ("131073", "1500001")
PAGES = ("page", "pages")
FOLDER = "folder"
_COPIES_OF_EACH = 300  # more than the tests of any subject

_NOT_FOUND = 127  # the exit status of ``sh`` and ``env`` for a missing program

# Prevents access to desktop daemons and to the user's settings.
_ENVIRONMENT = {"GIO_USE_VFS": "local", "RCLONE_CONFIG": "/dev/null"}

_END = b"%%EOF\n"

Copies = Mapping[str, bytes]


# The files to copy.


def _blocks(size_bytes: int) -> bytes:
    """Return bytes that begin and end like a PDF; all pages differ, except for some holes."""
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
        return tuple(invoice for one in (*FILES, *PAGES) for invoice in _invoices(one))
    lines = dict(zip(PAGES, (3, 400), strict=True))  # 400 lines take more than one read
    pdf = _statement(lines[subject]) if subject in lines else _blocks(int(subject))
    return (SampleInvoice(f"invoice-{subject}", pdf),)


@cache
def everything() -> SampleTenant:
    """Return a tenant with many copies of each subject.

    Each copy has a namespace of its own, because read-ahead would download a file's neighbours.
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
    """The file or folder of the mount that a tool reads, and a folder for its output."""

    folder: Path
    room: Path

    @property
    def expected(self) -> Copies:
        """The content that the server has, by file name."""
        return contents(everything(), self.folder.name)

    @property
    def name(self) -> str:
        """The name of the file, or ``.`` for the folder."""
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
        """A copy of the source on an ordinary filesystem."""
        return self.room / "ordinary" / self.name

    def prepare(self) -> None:
        """Create the folders for output and the ordinary copies."""
        ordinary = self.room / "ordinary"
        self.target.mkdir()
        ordinary.mkdir()
        for name, pdf in self.expected.items():
            (ordinary / name).write_bytes(pdf)

    def run(self, *words: str) -> Ended:
        """Run a program; words such as SOURCE are replaced by paths."""
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
        """Describe wrong copies in words, because the bytes would be megabytes."""
        names = sorted({*copies, *self.expected})
        pairs = [(name, copies.get(name), self.expected.get(name)) for name in names]
        return [f"{name}: {_difference(*pair)}" for name, *pair in pairs if pair[0] != pair[1]]


def _difference(copy: bytes | None, expected: bytes | None) -> str:
    if copy is None or expected is None:
        return "missing" if copy is None else "unexpected"
    pairs = enumerate(zip(copy, expected, strict=False))
    equal = next((offset for offset, (a, b) in pairs if a != b), min(len(copy), len(expected)))
    return f"{len(copy)} bytes of {len(expected)}, equal up to {equal}"


class Stage:
    """A mount of the tenant with all subjects."""

    def __init__(self, sandbox: Sandbox, mount: Mount) -> None:
        self._sandbox = sandbox
        self._mount = mount
        self._numbers: defaultdict[str, Iterator[int]] = defaultdict(count)

    def never_accessed(self, subject: str, room: Path) -> Place:
        """Return a file that was never accessed, or a folder of them."""
        place = Place(self._mount / f"{subject}-{next(self._numbers[subject])}", room)
        place.prepare()
        return place

    def never_opened(self, subject: str, room: Path) -> Place:
        """Return a file that was never opened, or a folder of them."""
        place = self.never_accessed(subject, room)
        found = run("find", place.folder, "-type", "f", "-printf", "%s %b\n").good().lines
        assert found == [f"{UPPER_BOUND_BYTES} 0"] * len(place.expected)
        assert self.pdf_requests(place) == 0
        return place

    def downloaded(self, subject: str, room: Path) -> Place:
        """Return a file that was read once, or a folder of them."""
        place = self.never_opened(subject, room)
        run("cat", *(place.folder / name for name in place.expected)).good()
        return place

    def pdf_requests(self, place: Place) -> int:
        """Return the number of PDF requests for this place."""
        return self._sandbox.count(Endpoint.PDF, place.folder.name)
