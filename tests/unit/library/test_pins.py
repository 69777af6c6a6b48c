"""Open invoices: one version for all handles, and limited memory."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from invoicefs.library import pins as module
from invoicefs.library.pins import Pins
from invoicefs.model import Content, Invoice, Record
from invoicefs.store.spill import SpilledPdf, spilled

MOST_BYTES = 1000
INVOICES = [Invoice("system", f"i{number}") for number in range(4)]


class Disk:
    """Takes PDFs that do not fit in memory, but none while it `is_full`.

    `while_spilling` is called once, before the next PDF is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_full = False
        self.files: list[SpilledPdf] = []
        self.while_spilling: Callable[[], object] = lambda: None

    def spill(self, pdf: bytes) -> SpilledPdf | None:
        if self.is_full:
            return None
        meanwhile, self.while_spilling = self.while_spilling, lambda: None
        meanwhile()
        self.files.append(spilled(pdf, self.folder))
        return self.files[-1]


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PINNED_BYTES", MOST_BYTES)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


@pytest.fixture
def pins(disk: Disk) -> Iterator[Pins]:
    before = set(os.listdir("/proc/self/fd"))
    yield (pins := Pins(disk.spill))
    for invoice in INVOICES:
        while pins.get(invoice.key):
            pins.release(invoice)
    assert set(os.listdir("/proc/self/fd")) == before
    assert list(disk.folder.iterdir()) == []


def content_of(invoice: Invoice, size_bytes: int) -> Content:
    return Content(Record(0), (invoice.name.encode() * size_bytes)[:size_bytes])


def test_pdfs_beyond_the_memory_limit_are_served_from_unlinked_files(
    pins: Pins, disk: Disk
) -> None:
    contents = {invoice: content_of(invoice, 400) for invoice in INVOICES}
    opened = {invoice: pins.add(invoice, content) for invoice, content in contents.items()}

    assert len(disk.files) == 2
    assert list(disk.folder.iterdir()) == []
    for invoice, content in contents.items():
        pdf = opened[invoice].pdf
        assert len(pdf) == 400
        for part in (slice(0, 400), slice(390, 500), slice(400, 500), slice(17, 18), slice(0, 0)):
            assert pdf[part] == content.pdf[part]


def test_closing_a_file_frees_its_memory(pins: Pins, disk: Disk) -> None:
    for invoice in INVOICES:
        pins.add(invoice, content_of(invoice, 900))
        pins.release(invoice)

    assert disk.files == []


def test_all_handles_share_the_version_of_the_first(pins: Pins, disk: Disk) -> None:
    first = pins.add(INVOICES[0], content_of(INVOICES[0], 10))

    assert pins.add(INVOICES[0], content_of(INVOICES[1], 2000)) is first
    assert pins.take(INVOICES[0]) is first
    assert len(pins) == 1
    assert disk.files == []


def test_a_version_that_another_open_overtook_is_closed(pins: Pins, disk: Disk) -> None:
    disk.while_spilling = lambda: pins.add(INVOICES[0], content_of(INVOICES[0], 10))
    opened = pins.add(INVOICES[0], content_of(INVOICES[1], 2000))

    assert opened.pdf == content_of(INVOICES[0], 10).pdf
    assert len(pins) == 1
    assert len(disk.files) == 1


def test_a_pdf_that_cannot_be_spilled_stays_in_memory(pins: Pins, disk: Disk) -> None:
    disk.is_full = True
    opened = pins.add(INVOICES[0], content_of(INVOICES[0], 5000))

    assert opened.pdf[:] == content_of(INVOICES[0], 5000).pdf


def test_a_spilled_file_that_reads_back_differently_is_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = os.pread
    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", lambda *place: read(*place)[:-1] + b"?")
        with pytest.raises(OSError, match="Input/output") as failed:
            spilled(b"as it was written", tmp_path)
    assert failed.value.errno == errno.EIO


def test_a_short_read_of_a_spilled_file_raises_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pdf = spilled(b"0123456789", tmp_path)
    try:
        monkeypatch.setattr(os, "pread", lambda *_: b"012")
        with pytest.raises(OSError, match="Input/output"):
            pdf[0:10]
    finally:
        pdf.close()
