"""What is done with each contestant that can list very many files."""

import threading

from tests.bench import rows
from tests.bench.contestants import Filesystem
from tests.bench.limits import LATENCY_S
from tests.bench.mounting import Mounted
from tests.bench.rows import Values
from tests.bench.running_server import running_server
from tests.bench.stage import Stage
from tests.bench.tenant import (
    COUNTS,
    CROWDED,
    HUNDRED_THOUSAND,
    TEN_THOUSAND,
)

_SETTLED_S = 0.5  # after this time, a mount has finished its background work on a listing


def listing(filesystem: Filesystem, stage: Stage) -> Values:
    """Measure the first ``ls -f`` of large namespaces."""
    with stage.mounted(filesystem) as mount:
        _list(stage, mount, "", CROWDED)
        before_bytes = mount.memory_bytes
        long_s = _list(stage, mount, rows.LIST_100K, HUNDRED_THOUSAND)
        grown_bytes = _settled_bytes(mount) - before_bytes
        short_s = _list(stage, mount, rows.LIST_10K, TEN_THOUSAND)
    return {
        rows.LIST_10K: short_s,
        rows.LIST_100K: long_s,
        rows.LINEARITY: long_s / short_s,
        rows.INVOICE_MEMORY: grown_bytes / COUNTS[HUNDRED_THOUSAND],
    }


def many_namespaces(filesystem: Filesystem, stage: Stage) -> Values:
    """Measure a mount that has very many namespaces."""
    with (
        running_server(LATENCY_S, "empty-namespaces") as server,
        stage.mounted(filesystem, server.addresses) as mount,
    ):
        again_s = stage.timed(rows.NAMESPACES_100K, mount, "ls", "-f", mount.path)
        return {rows.NAMESPACES_100K: mount.usable_s + again_s}


def _settled_bytes(mount: Mounted) -> int:
    threading.Event().wait(_SETTLED_S)
    return mount.memory_bytes


def _list(stage: Stage, mount: Mounted, row: str, folder: str) -> float:
    names = COUNTS[folder] + 2  # including . and ..
    counted = f'test $(ls -f "$1" | wc -l) = {names}'
    return stage.timed(row, mount, "sh", "-c", counted, "sh", mount.path / folder)
