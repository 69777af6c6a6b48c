"""What is done with each contestant, and the measured values.

A scenario measures several rows if one mount can be used for all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from tests.bench import cold, large, rows, warm
from tests.bench.contestants import (
    BINDFS,
    FSSPEC,
    HTTPDIRFS,
    INVOICEFS,
    RCLONE,
    RCLONE_WITHOUT_SIZES,
    Filesystem,
)
from tests.bench.limits import LATENCY_S, LONG_LATENCY_S
from tests.bench.pipelines import CLIENT, SEQUENTIAL, XARGS, Pipeline
from tests.bench.rows import Values
from tests.bench.stage import Stage
from tests.bench.tenant import CROWDED, THOUSAND
from tests.bench.warm import WITHOUT_SERVER

Runs = dict[str, Callable[[Stage], Values]]


@dataclass(frozen=True)
class Scenario:
    """Rows that are measured together, for some contestants.

    `max_rounds` limits the rounds of contestants that would take too long.
    """

    name: str
    rows: tuple[str, ...]
    runs: Mapping[str, Callable[[Stage], Values]]
    max_rounds: Mapping[str, int] = field(default_factory=dict)


def _mounting(filesystem: Filesystem, stage: Stage) -> Values:
    with stage.mounted(filesystem) as mount:
        return {rows.USABLE: mount.usable_s}


def _listing_with_stat(filesystem: Filesystem, stage: Stage) -> Values:
    with stage.mounted(filesystem) as mount:
        argv = ("ls", "-l", mount.path / THOUSAND)
        return {row: stage.timed(row, mount, *argv) for row in (rows.FIRST_LS, rows.SECOND_LS)}


def _crowd(filesystem: Filesystem, stage: Stage) -> Values:
    with stage.mounted(filesystem) as mount:
        stage.timed("", mount, "ls", "-l", mount.path / CROWDED)
        stage.server.forget_requests()
        contents = stage.reading("", mount, "crowd", CROWDED)
        assert contents == 1, f"{contents} different contents were read"
        return {rows.CROWD: float(stage.server.requests)}


def _runs(run: Callable[[Filesystem, Stage], Values], *filesystems: Filesystem) -> Runs:
    return {filesystem.name: partial(run, filesystem) for filesystem in filesystems}


def _piped(run: Callable[[Pipeline, Stage], Values], *pipelines: Pipeline) -> Runs:
    return {pipeline.name: partial(run, pipeline) for pipeline in pipelines}


def _once(runs: Runs) -> dict[str, int]:
    """Limit the rounds of all contestants to one."""
    return dict.fromkeys(runs, 1)


_REMOTE = (RCLONE, HTTPDIRFS, FSSPEC)
_PARALLEL = (XARGS, CLIENT)


def scenarios(subjects: Sequence[Filesystem] = (INVOICEFS,)) -> tuple[Scenario, ...]:
    """Return all scenarios for these revisions of invoicefs and the other contestants."""
    return (*_of_mounts(subjects), *_of_many(subjects), *_cold(subjects), *_warm(subjects))


def _of_mounts(subjects: Sequence[Filesystem]) -> Sequence[Scenario]:
    return (
        Scenario("mounting", (rows.USABLE,), _runs(_mounting, *subjects, *_REMOTE, BINDFS)),
        Scenario(
            "ls -l",
            (rows.FIRST_LS, rows.SECOND_LS),
            _runs(_listing_with_stat, *subjects, *_REMOTE, RCLONE_WITHOUT_SIZES, *WITHOUT_SERVER),
            max_rounds={HTTPDIRFS.name: 1},
        ),
        Scenario("crowd", (rows.CROWD,), _runs(_crowd, *subjects, *_REMOTE)),
        Scenario(
            "waiting opens",
            (rows.WAITING_STAT, rows.WAITING_LS),
            _runs(warm.waiting_opens, *subjects),
        ),
    )


def _of_many(subjects: Sequence[Filesystem]) -> Sequence[Scenario]:
    linearity = _runs(large.linearity, *subjects)
    with_stat = _runs(large.listing_with_stat, *subjects, RCLONE_WITHOUT_SIZES, FSSPEC)
    return (
        Scenario(
            "listing",
            (rows.LIST_10K, rows.LIST_100K, rows.LINEARITY, rows.INVOICE_MEMORY),
            _runs(large.listing, *subjects, RCLONE_WITHOUT_SIZES, FSSPEC),
        ),
        Scenario(
            "300 000", (rows.LINEARITY_300K, rows.MEMORY_LINEARITY), linearity, _once(linearity)
        ),
        Scenario(
            "100 000",
            (rows.FIRST_LS_100K, rows.SECOND_LS_100K, rows.SECOND_RSYNC_100K, rows.STAT_MEMORY),
            with_stat,
            _once(with_stat),
        ),
        Scenario("namespaces", (rows.NAMESPACES_100K,), _runs(large.many_namespaces, *subjects)),
    )


def _cold(subjects: Sequence[Filesystem]) -> Sequence[Scenario]:
    elsewhere = cold.elsewhere(rows.OTHER_LS, rows.OTHER_OPEN, LATENCY_S)
    elsewhere_2s = cold.elsewhere(rows.OTHER_LS_2S, rows.OTHER_OPEN_2S, LONG_LATENCY_S)
    long_waits = _runs(elsewhere_2s, *subjects)
    return (
        Scenario(
            "archive",
            (rows.COLD_CP, rows.WARM_CP, rows.MEMORY, rows.REQUESTS),
            _runs(cold.archive, *subjects, *_REMOTE, *WITHOUT_SERVER)
            | _piped(cold.archive_by_pipeline, SEQUENTIAL, *_PARALLEL),
            max_rounds={HTTPDIRFS.name: 1, SEQUENTIAL.name: 1},
        ),
        Scenario(
            "rsync",
            (rows.COLD_RSYNC,),
            _runs(cold.archive_by_rsync, *subjects, RCLONE, FSSPEC),
            max_rounds={RCLONE.name: 1},
        ),
        Scenario(
            "fast API",
            (rows.COLD_CP_5MS, rows.DOWNLOAD_CPU),
            _runs(cold.fast_api, *subjects, RCLONE, FSSPEC)
            | _piped(cold.fast_api_by_pipeline, *_PARALLEL),
        ),
        Scenario(
            "small namespaces",
            (rows.COLD_CP_SMALL,),
            _runs(cold.small_namespaces, *subjects)
            | _piped(cold.small_namespaces_by_pipeline, *_PARALLEL),
        ),
        Scenario(
            "TLS",
            (rows.COLD_CP_TLS,),
            _runs(cold.over_tls, *subjects) | _piped(cold.over_tls_by_pipeline, *_PARALLEL),
        ),
        Scenario("elsewhere", (rows.OTHER_LS, rows.OTHER_OPEN), _runs(elsewhere, *subjects)),
        Scenario(
            "elsewhere at 2 s",
            (rows.OTHER_LS_2S, rows.OTHER_OPEN_2S),
            long_waits,
            _once(long_waits),
        ),
    )


def _warm(subjects: Sequence[Filesystem]) -> Sequence[Scenario]:
    return (
        Scenario(
            "small accesses",
            (
                *(rows.READ_SAME, rows.WARM_READ, rows.FRESH_READ),
                *(rows.STAT, rows.STAT_AT_ONCE, rows.STAT_CPU),
            ),
            _runs(warm.small_accesses, *subjects, RCLONE, FSSPEC, *WITHOUT_SERVER),
        ),
        Scenario(
            "large copies",
            (rows.LARGE_CP,),
            _runs(warm.large_copies, *subjects, RCLONE, FSSPEC, *WITHOUT_SERVER),
        ),
        Scenario(
            "second rsync",
            (rows.SECOND_RSYNC,),
            _runs(warm.second_rsync, *subjects, RCLONE, *WITHOUT_SERVER),
            max_rounds={RCLONE.name: 1},
        ),
    )
