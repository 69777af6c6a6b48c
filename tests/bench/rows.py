"""The rows of the table: what is measured, and the targets of invoicefs."""

from dataclasses import dataclass
from enum import Enum

from tests.bench.contestants import BINDFS, RCLONE
from tests.bench.limits import LATENCY_S, LONG_LATENCY_S, SHORT_LATENCY_S, limit_s
from tests.bench.pipelines import CLIENT, SEQUENTIAL, XARGS
from tests.bench.tenant import ARCHIVE, COUNTS, SMALL

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
    """One thing that is measured. The value of invoicefs itself is to be at most `most`.

    `limit_s` is the time that its requests take at least; invoicefs is to take at most
    `most_of_limit` times as long.
    """

    key: str
    title: str
    kind: Kind = Kind.SECONDS
    targets: tuple[Target, ...] = ()
    most: float | None = None
    limit_s: float | None = None
    most_of_limit: float | None = None


Values = dict[str, float]
"""Key of a row -> measured value."""

COLD_CP = "cold-cp"
COLD_RSYNC = "cold-rsync"
COLD_CP_5MS = "cold-cp-5ms"
COLD_CP_SMALL = "cold-cp-small"
COLD_CP_TLS = "cold-cp-tls"
DOWNLOAD_CPU = "download-cpu"
WARM_CP = "warm-cp"
LARGE_CP = "warm-cp-1000"
SECOND_RSYNC = "second-rsync"
READ_SAME = "warm-read-same"
WARM_READ = "warm-read"
FRESH_READ = "fresh-read"
STAT = "stat"
STAT_AT_ONCE = "stat-at-once"
STAT_CPU = "stat-cpu"
WAITING_STAT = "waiting-stat"
WAITING_LS = "waiting-ls"
OTHER_LS = "other-ls"
OTHER_OPEN = "other-open"
OTHER_LS_2S = "other-ls-2s"
OTHER_OPEN_2S = "other-open-2s"
FIRST_LS = "first-ls"
SECOND_LS = "second-ls"
LIST_10K = "list-10k"
LIST_100K = "list-100k"
NAMESPACES_100K = "namespaces-100k"
LINEARITY = "linearity"
LINEARITY_300K = "linearity-300k"
FIRST_LS_100K = "first-ls-100k"
SECOND_LS_100K = "second-ls-100k"
SECOND_RSYNC_100K = "second-rsync-100k"
INVOICE_MEMORY = "invoice-memory"
MEMORY_LINEARITY = "memory-linearity"
STAT_MEMORY = "stat-memory"
USABLE = "usable"
MEMORY = "memory"
REQUESTS = "requests"
CROWD = "crowd"

_READ_TARGETS = (Target(RCLONE.name, 1.0), Target(BINDFS.name, 1 / 1.3))
_COLD_TARGETS = (
    *(Target(XARGS.name, 1 / 0.6), Target(CLIENT.name, 1 / 0.7)),
    *(Target(SEQUENTIAL.name, 6.0), Target(RCLONE.name, 6.0)),
)
_ARCHIVE_REQUESTS = COUNTS[ARCHIVE] + 1  # one lists them
_ARCHIVE_LIMIT_S = limit_s(_ARCHIVE_REQUESTS)
_SMALL_REQUESTS = sum(COUNTS[name] + 1 for name in SMALL)
_LINEAR = 3 * 1.2  # for three times as many, with the same tolerance as for ten times
ROWS: tuple[Row, ...] = (
    Row(
        *(COLD_CP, "cold archive, `cp -r`"),
        targets=_COLD_TARGETS,
        limit_s=_ARCHIVE_LIMIT_S,
        most_of_limit=1.2,
    ),
    Row(
        *(COLD_RSYNC, "cold archive, `rsync -a`"),
        targets=_COLD_TARGETS,
        limit_s=_ARCHIVE_LIMIT_S,
        most_of_limit=1.2,
    ),
    Row(
        *(COLD_CP_5MS, "cold archive at 5 ms, `cp -r`"),
        targets=(Target(XARGS.name, 1 / 0.5),),
        limit_s=limit_s(_ARCHIVE_REQUESTS, SHORT_LATENCY_S),
    ),
    Row(DOWNLOAD_CPU, "... CPU time of the mount per invoice", most=1.5e-3),
    Row(
        *(COLD_CP_SMALL, "cold `cp -r` of 60 small namespaces"),
        limit_s=limit_s(_SMALL_REQUESTS),
    ),
    Row(COLD_CP_TLS, "cold archive over TLS, `cp -r`", limit_s=_ARCHIVE_LIMIT_S),
    Row(WARM_CP, "second `cp -r`"),
    Row(LARGE_CP, "second `cp -r` of 1 000", targets=(Target(BINDFS.name, 1 / 1.2),)),
    Row(SECOND_RSYNC, "second `rsync -a` of 10 000"),
    Row(READ_SAME, "warm open, read, close of one", targets=_READ_TARGETS),
    Row(WARM_READ, "... of 200 in turn", targets=_READ_TARGETS),
    Row(FRESH_READ, "... right after the download", targets=_READ_TARGETS),
    Row(STAT, "warm `stat`"),
    Row(STAT_AT_ONCE, "... by 4 processes at once"),
    Row(STAT_CPU, "... CPU time of the mount", most=40e-6),
    Row(FIRST_LS, "first `ls -l` of 1 000", targets=(Target(RCLONE.name, 1 / 1.5),)),
    Row(SECOND_LS, "second `ls -l` of 1 000"),
    Row(LIST_10K, "first `ls -f` of 10 000"),
    Row(LIST_100K, "first `ls -f` of 100 000"),
    Row(LINEARITY, "... 100 000 to 10 000", Kind.NUMBER, most=12.0),
    Row(LINEARITY_300K, "... 300 000 to 100 000", Kind.NUMBER, most=_LINEAR),
    Row(FIRST_LS_100K, "first `ls -l` of 100 000"),
    Row(SECOND_LS_100K, "second `ls -l` of 100 000"),
    Row(SECOND_RSYNC_100K, "second `rsync -a` of 100 000"),
    Row(NAMESPACES_100K, "mounting and `ls -f` of 100 000 namespaces"),
    Row(INVOICE_MEMORY, "memory per listed invoice", Kind.BYTES, most=0.8 * KIB),
    Row(STAT_MEMORY, "... after `ls -l`", Kind.BYTES),
    Row(MEMORY_LINEARITY, "memory of 300 000 to 100 000 listed", Kind.NUMBER, most=_LINEAR),
    Row(USABLE, "mounting, until `ls` works", targets=(Target(RCLONE.name, 1 / 1.5),)),
    Row(MEMORY, "memory after the cold archive", Kind.BYTES),
    Row(REQUESTS, "requests for the archive", Kind.NUMBER),
    Row(CROWD, "requests of 64 readers of one", Kind.NUMBER, most=1.0),
    Row(OTHER_LS, "worst `ls` elsewhere during `cp -r`", limit_s=LATENCY_S),
    Row(OTHER_OPEN, "worst open elsewhere during `cp -r`", limit_s=LATENCY_S),
    Row(
        *(OTHER_LS_2S, "worst `ls` elsewhere during `cp -r` at 2 s"),
        limit_s=LONG_LATENCY_S,
        most_of_limit=1.25,
    ),
    Row(OTHER_OPEN_2S, "worst open elsewhere during `cp -r` at 2 s", limit_s=LONG_LATENCY_S),
    Row(WAITING_STAT, "worst `stat` during 40 opens of 4 s", most=0.020),
    Row(WAITING_LS, "worst `ls` during 40 opens of 4 s"),
)

PROFILED = (
    *(COLD_CP, COLD_RSYNC, COLD_CP_5MS, COLD_CP_SMALL, COLD_CP_TLS),
    *(WARM_CP, LARGE_CP, SECOND_RSYNC, FIRST_LS_100K, SECOND_LS_100K, SECOND_RSYNC_100K),
    *(READ_SAME, WARM_READ, FRESH_READ, STAT, STAT_AT_ONCE),
    *(FIRST_LS, SECOND_LS, LIST_10K, LIST_100K),
)
"""The rows in which a mount is busy for a while."""
