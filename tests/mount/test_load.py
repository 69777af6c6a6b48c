"""A mount under load: how it ends, and how many requests it makes at once."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from invoicefs.sandbox import Sandbox
from tests.mount.support.mounts import Mount, Mounts
from tests.soak.load import Report
from tests.soak.running_load import RunningLoad, load
from tests.soak.tenant import soak_tenant

pytestmark = pytest.mark.timeout(240)  # a hung mount uses up more than one LIMIT_S

THREADS = 50
SEED = "test"
OPTIONS = ("--list-ttl", "1s", "--active-ttl", "1s", "--cache-size", "4MiB")

PATH_IS_GONE = "ENOENT"
# The kernel returns EIO for a page that it can no longer read.
MOUNT_IS_GONE = {PATH_IS_GONE, "ENOTCONN", "ECONNABORTED", "EIO"}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(soak_tenant(), latency_s=0.05) as sandbox:
        yield sandbox


@contextmanager
def loaded(mounts: Mounts, *options: str) -> Iterator[tuple[Mount, RunningLoad]]:
    """A mount and a load on it, which has started."""
    mount = mounts.mount(*OPTIONS, *options)
    with load(mounts, mount, THREADS, SEED) as running:
        running.work()
        yield mount, running


def errnos(report: Report) -> set[str]:
    """The names of the errors that occurred when the mount was ended."""
    return {words.rpartition(" ")[2] for words in report.endings}


def assert_no_failure(report: Report) -> None:
    assert report.wrong == {}
    assert report.errors == {}


def assert_nothing_is_left(mounts: Mounts, mount: Mount) -> None:
    mount.wait_until_ended()
    assert not mount.is_mounted
    assert mounts.run("ls", "-A", mount.path).good().lines == []


@pytest.mark.promise(
    "A busy mount can be ended at any time, by SIGTERM or lazily, and leaves nothing behind."
)
def test_sigterm_ends_a_mount_under_load(anyones_mounts: Mounts) -> None:
    mounts = anyones_mounts
    with loaded(mounts) as (mount, running):
        running.expect_the_end()
        os.kill(mount.daemon, signal.SIGTERM)
        assert_nothing_is_left(mounts, mount)
        report = running.end()
    assert_no_failure(report)
    assert errnos(report) <= MOUNT_IS_GONE


@pytest.mark.promise(
    "A busy mount can be ended at any time, by SIGTERM or lazily, and leaves nothing behind."
)
def test_a_lazily_unmounted_mount_serves_open_files_and_then_exits(
    anyones_mounts: Mounts,
) -> None:
    mounts = anyones_mounts
    with loaded(mounts) as (mount, running):
        running.expect_the_end()
        mounts.command("umount", "--lazy", mount.path).good()
        assert not mount.is_mounted
        assert mounts.run("ls", "-A", mount.path).good().lines == []
        assert_nothing_is_left(mounts, mount)
        report = running.end()
    assert_no_failure(report)
    # An open file can be read to its end; only paths no longer resolve.
    assert errnos(report) <= {PATH_IS_GONE}


@pytest.mark.promise("There are never more than `--parallel` concurrent requests.")
@pytest.mark.parametrize("parallel", [1, 8])
def test_requests_in_flight_never_exceed_parallel_under_load(
    sandbox: Sandbox, mounts: Mounts, parallel: int
) -> None:
    sandbox.latency_s = 0.02 * parallel  # keeps all slots busy; the total rate is constant
    with loaded(mounts, "--parallel", str(parallel)) as (_, running):
        assert_no_failure(running.end())
    assert sandbox.peak_concurrency == parallel
