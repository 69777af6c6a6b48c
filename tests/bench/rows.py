"""The rows of the table: what is measured, and the targets of invoicefs."""

from dataclasses import dataclass
from enum import Enum

from tests.bench.contestants import BINDFS, RCLONE, SEQUENTIAL, XARGS

KIB = 1024


class Kind(Enum):
    """The unit of a row."""

    SECONDS = "seconds"
    BYTES = "bytes"
    NUMBER = "number"  # shown as it is for all contestants, not as a ratio


@dataclass(frozen=True)
class Target:
    """A contestant is to have at least `ratio` times the value of invoicefs."""

    contestant: str
    ratio: float


@dataclass(frozen=True)
class Row:
    """One thing that is measured. The value of invoicefs itself is to be at most `most`."""

    key: str
    title: str
    kind: Kind = Kind.SECONDS
    targets: tuple[Target, ...] = ()
    most: float | None = None


COLD_CP = "cold-cp"
COLD_RSYNC = "cold-rsync"
WARM_CP = "warm-cp"
WARM_READ = "warm-read"
FIRST_LS = "first-ls"
SECOND_LS = "second-ls"
LIST_10K = "list-10k"
LIST_100K = "list-100k"
NAMESPACES_100K = "namespaces-100k"
LINEARITY = "linearity"
INVOICE_MEMORY = "invoice-memory"
USABLE = "usable"
MEMORY = "memory"
REQUESTS = "requests"
CROWD = "crowd"

_COLD_TARGETS = (Target(XARGS.name, 2.0), Target(SEQUENTIAL.name, 6.0), Target(RCLONE.name, 6.0))
ROWS: tuple[Row, ...] = (
    Row(COLD_CP, "cold archive, `cp -r`", targets=_COLD_TARGETS),
    Row(COLD_RSYNC, "cold archive, `rsync -a`", targets=_COLD_TARGETS),
    Row(WARM_CP, "second `cp -r`"),
    Row(
        WARM_READ,
        "warm open, read, close of one",
        targets=(Target(RCLONE.name, 1.0), Target(BINDFS.name, 1 / 1.5)),
    ),
    Row(FIRST_LS, "first `ls -l` of 1 000", targets=(Target(RCLONE.name, 1 / 1.5),)),
    Row(SECOND_LS, "second `ls -l` of 1 000"),
    Row(LIST_10K, "first `ls -f` of 10 000"),
    Row(LIST_100K, "first `ls -f` of 100 000"),
    Row(LINEARITY, "... 100 000 to 10 000", Kind.NUMBER, most=12.0),
    Row(NAMESPACES_100K, "mounting and `ls -f` of 100 000 namespaces"),
    Row(INVOICE_MEMORY, "memory per listed invoice", Kind.BYTES, most=KIB),
    Row(USABLE, "mounting, until `ls` works", targets=(Target(RCLONE.name, 1 / 2.0),)),
    Row(MEMORY, "memory after the cold archive", Kind.BYTES),
    Row(REQUESTS, "requests for the archive", Kind.NUMBER),
    Row(CROWD, "requests of 64 readers of one", Kind.NUMBER, most=1.0),
)

PROFILED = (COLD_CP, COLD_RSYNC, WARM_CP, WARM_READ, FIRST_LS, SECOND_LS, LIST_10K, LIST_100K)
"""The rows in which a mount is busy for a while."""
