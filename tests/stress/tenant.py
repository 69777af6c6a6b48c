"""The tenant of the stress test, and the truth about its files.

Each round has a namespace of its own, so its files are new. The content of a file is a slice of
noise that is generated once. The slice depends on file and version, and contains no zeros: so the
zeros of a kernel that has the wrong size are noticed anywhere, and so is a slice from the wrong
offset. A draft has a new version, of another size, in each response to a PDF request.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import count
from random import Random

from invoicefs.sandbox import SampleNamespace, SampleTenant
from tests.mount.support.tenants import invoice

ROUNDS = 10_000
"""The number of namespaces, which the mount lists only once."""

_STRIDE = 3_001  # has no common factor with `ROUNDS`, so all names are different
_FINAL, _DRAFTS = 300, 15  # per round
_OPENS_PER_DRAFT = 8
_SMALLEST_BYTES, _LARGEST_BYTES = 1_000, 300_000
_NOISE_BYTES = 4 * 1024 * 1024
_NOISE = (
    Random("noise")  # noqa: S311 # the same in every process
    .randbytes(_NOISE_BYTES)
    .replace(b"\0", b"\x55")
)
_END = b"\n%%EOF\n"


@dataclass(frozen=True)
class File:
    """A file of a round; `name` is that of the invoice."""

    round_number: int
    name: str
    is_draft: bool

    @property
    def path(self) -> str:
        """The path below the mount point."""
        return f"{folder(self.round_number)}/{self.name}.pdf"

    def content(self, version: int = 0) -> bytes:
        """Return the content of a version; a final invoice has only version 0."""
        head = f"%PDF-1.4\n%{self.path} {version}\n".encode()
        digest = blake2b(head, digest_size=8).digest()
        size, start = (int.from_bytes(half, "big") for half in (digest[:4], digest[4:]))
        size = _SMALLEST_BYTES + size % (_LARGEST_BYTES - _SMALLEST_BYTES)
        start %= _NOISE_BYTES - _LARGEST_BYTES
        return b"".join((head, _NOISE[start : start + size], _END))

    def version_of(self, beginning: bytes) -> int | None:
        """Return the version of content that begins like this; None if it is of another file."""
        lines = beginning.split(b"\n", 2)
        if len(lines) < 3 or lines[0] != b"%PDF-1.4":
            return None
        path, _, version = lines[1].decode("ascii", "replace").partition(" ")
        return int(version) if path == f"%{self.path}" and version.isdecimal() else None


def folder(round_number: int) -> str:
    """Return the name of the namespace of a round.

    Namespaces are empty until their round. The next one must not be the next by name, because then
    the mount would list it ahead, and show no files for as long as that listing is recent.
    """
    return f"round-{round_number * _STRIDE % ROUNDS:04}"


def files(round_number: int) -> Sequence[File]:
    """Return the files of a round, the oldest first."""
    return [
        File(round_number, f"invoice-{number:03}", is_draft=number >= _FINAL)
        for number in range(_FINAL + _DRAFTS)
    ]


def schedule(round_number: int) -> Sequence[File]:
    """Return the files in the order in which all readers open them; drafts occur repeatedly."""
    found = [
        file
        for file in files(round_number)
        for _ in range(_OPENS_PER_DRAFT if file.is_draft else 1)
    ]
    Random(round_number).shuffle(found)  # noqa: S311 # the same in every process
    return found


def tenant_of_round(round_number: int) -> SampleTenant:
    """Return the tenant during a round.

    The namespace of the round before is still listed, for the stat callers; all others are empty.
    """
    shown = (round_number - 1, round_number)
    return SampleTenant(
        "acme",
        tuple(
            _namespace(number) if number in shown else SampleNamespace(folder(number))
            for number in range(ROUNDS)
        ),
    )


def with_amount(tenant: SampleTenant, round_number: int, amount: int) -> SampleTenant:
    """Return the tenant with another amount on each draft of a round, so that all have changed."""
    drafts = [
        replace(invoice, amount=str(amount))
        for invoice in tenant.by_name[folder(round_number)].invoices
        if invoice.active
    ]
    return tenant.with_invoices(folder(round_number), *drafts)


def _namespace(round_number: int) -> SampleNamespace:
    newest_first = [
        replace(
            invoice(number, name=file.name),
            pdf=_versions(file) if file.is_draft else file.content,
            active=file.is_draft,
        )
        for number, file in enumerate(files(round_number))
    ][::-1]
    return SampleNamespace(folder(round_number), tuple(newest_first))


def _versions(file: File) -> Callable[[], bytes]:
    """Return a function that returns the next version at each call."""
    numbers = count()
    return lambda: file.content(next(numbers))
