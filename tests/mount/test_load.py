"""A mount that ends while many threads use it, and what it asks of the API at such a time."""

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

pytestmark = pytest.mark.timeout(240)  # a mount that hangs is waited for several times

THREADS = 50
SEED = "test"
OPTIONS = ("--list-ttl", "1s", "--active-ttl", "1s", "--cache-size", "4MiB")

PATH_IS_GONE = "ENOENT"
# EIO is what the kernel makes of a page that it can no longer read.
MOUNT_IS_GONE = {PATH_IS_GONE, "ENOTCONN", "ECONNABORTED", "EIO"}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(soak_tenant(), latency_s=0.05) as sandbox:
        yield sandbox


@contextmanager
def loaded(mounts: Mounts, *options: str) -> Iterator[tuple[Mount, RunningLoad]]:
    """A mount, and a load on it that has begun."""
    mount = mounts.mount(*OPTIONS, *options)
    with load(mounts, mount, THREADS, SEED) as running:
        running.work()
        yield mount, running


def errnos(report: Report) -> set[str]:
    """The names of the errors that came when the mount was ended."""
    return {words.rpartition(" ")[2] for words in report.endings}


def assert_that_nothing_is_wrong(report: Report) -> None:
    assert report.wrong == {}
    assert report.errors == {}


def assert_that_all_is_gone(mounts: Mounts, mount: Mount) -> None:
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
        assert_that_all_is_gone(mounts, mount)
        report = running.end()
    assert_that_nothing_is_wrong(report)
    assert errnos(report) <= MOUNT_IS_GONE


def test_a_mount_under_load_is_busy_and_goes_on_serving(anyones_mounts: Mounts) -> None:
    mounts = anyones_mounts
    with loaded(mounts) as (mount, running):
        ended = mounts.command("umount", mount.path)
        assert ended.code == 1
        assert "--lazy" in ended.err
        assert mount.is_mounted
        running.work()
        report = running.end()
    assert_that_nothing_is_wrong(report)
    mounts.umount(mount)


@pytest.mark.promise(
    "A busy mount can be ended at any time, by SIGTERM or lazily, and leaves nothing behind."
)
def test_a_lazily_unmounted_mount_serves_its_open_files_and_ends_by_itself(
    anyones_mounts: Mounts,
) -> None:
    mounts = anyones_mounts
    with loaded(mounts) as (mount, running):
        running.expect_the_end()
        mounts.command("umount", "--lazy", mount.path).good()
        assert not mount.is_mounted
        assert mounts.run("ls", "-A", mount.path).good().lines == []
        assert_that_all_is_gone(mounts, mount)
        report = running.end()
    assert_that_nothing_is_wrong(report)
    # Who has a file open can read it to its end; only paths lead nowhere.
    assert errnos(report) <= {PATH_IS_GONE}


def test_a_mount_that_is_killed_under_load_gives_no_wrong_byte(anyones_mounts: Mounts) -> None:
    mounts = anyones_mounts
    with loaded(mounts) as (mount, running):
        running.expect_the_end()
        mount.kill()
        running.work()
        report = running.end()
    assert_that_nothing_is_wrong(report)
    assert errnos(report) <= MOUNT_IS_GONE
    mounts.umount(mounts.mount(path=mount.path))


@pytest.mark.promise("There are never more than `--parallel` concurrent requests.")
@pytest.mark.parametrize("parallel", [1, 2, 8])
def test_under_load_no_more_calls_run_at_once_than_allowed(
    sandbox: Sandbox, mounts: Mounts, parallel: int
) -> None:
    sandbox.latency_s = 0.02 * parallel  # so all slots are taken, and it takes as long with few
    with loaded(mounts, "--parallel", str(parallel)) as (_, running):
        assert_that_nothing_is_wrong(running.end())
    assert sandbox.peak_concurrency == parallel
