"""The helper process that stats paths: it never fails, has no secrets and ends with ours."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from invoicefs.kernel import stat_helper
from invoicefs.kernel.stat_helper import StatHelper
from tests.mount.support.programs import eventually, wait_for_exit
from tests.support.running_library import crowd

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def helper(tmp_path: Path) -> Iterator[StatHelper]:
    (tmp_path / "file").touch()
    with closing(StatHelper(str(tmp_path))) as helper:
        helper.device = device_of(tmp_path)
        yield helper


def device_of(path: Path) -> str:
    """Return the number of a filesystem as mountinfo shows it."""
    device = path.stat().st_dev
    return f"{os.major(device)}:{os.minor(device)}"


def process_of(helper: StatHelper) -> int:
    """Return the process ID of the helper."""
    assert helper._process is not None
    return helper._process.pid


@pytest.mark.parametrize("path", ["/file", "", "/"], ids=["file", "nothing", "root"])
def test_a_stat_says_that_it_has_reached_the_filesystem(helper: StatHelper, path: str) -> None:
    assert helper.stat(path)


@pytest.mark.parametrize(
    "path",
    ["/missing", "/file/below", "/nul\0", "/\udcff", "/" + "x" * 10_000],
    ids=["missing", "below", "nul", "odd", "long"],
)
def test_a_stat_of_any_path_returns_and_raises_nothing(helper: StatHelper, path: str) -> None:
    for _ in range(2):
        assert not helper.stat(path)


@pytest.mark.parametrize("device", [None, "0:0", "1:1"])
def test_a_stat_that_finds_another_filesystem_has_not_reached_this_one(
    helper: StatHelper, device: str | None
) -> None:
    helper.device = device
    assert not helper.stat("/file")


def test_a_stat_has_been_made_when_it_returns(helper: StatHelper, tmp_path: Path) -> None:
    """A stat that follows a link updates the access time of the link."""
    link, other = tmp_path / "link", tmp_path / "other"
    for path in (link, other):
        path.symlink_to("file")
        os.utime(path, (0, 0), follow_symlinks=False)
    helper.stat("/link")
    os.stat(other)
    assert link.lstat().st_atime > 0 or other.lstat().st_atime == 0  # access times may be off


def test_many_threads_stat_at_the_same_time(helper: StatHelper) -> None:
    def stat_often() -> None:
        assert all(helper.stat("/file") for _ in range(20))

    crowd(stat_often, threads=40)


def test_one_stat_at_a_time_takes_two_threads(helper: StatHelper) -> None:
    """The limit of threads counts those of all processes of a user."""
    for _ in range(100):
        helper.stat("/file")
    assert len(list(Path(f"/proc/{process_of(helper)}/task").iterdir())) == 2


def test_the_process_has_no_environment_and_keeps_no_folder_busy(helper: StatHelper) -> None:
    helper.stat("/file")
    pid = process_of(helper)
    assert Path(f"/proc/{pid}/environ").read_bytes() == b""
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.getsid(pid) == pid
    files = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
    assert len([name for name in files if name != os.devnull]) == 1


def test_closing_ends_the_process(tmp_path: Path) -> None:
    with closing(StatHelper(str(tmp_path))) as helper:
        pid = process_of(helper)
    assert wait_for_exit(pid)
    helper.stat("/file")


def test_a_stat_returns_after_the_process_was_killed(
    helper: StatHelper, caplog: pytest.LogCaptureFixture
) -> None:
    helper.stat("/file")
    os.kill(process_of(helper), signal.SIGKILL)
    for _ in range(3):
        assert not helper.stat("/file")
    eventually(lambda: caplog.messages != [])
    (message,) = caplog.messages
    assert "has ended" in message


def test_a_stat_without_a_response_times_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stat_helper, "STAT_TIMEOUT_S", 0.001)
    with closing(StatHelper(str(tmp_path))) as helper:
        os.kill(process_of(helper), signal.SIGSTOP)
        for _ in range(500):  # more than any queue holds
            assert not helper.stat("/file")


def test_a_stat_returns_where_the_process_cannot_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with closing(StatHelper(str(tmp_path))) as helper:
        assert not helper.stat("/file")
    (message,) = caplog.messages
    assert "cannot be started" in message


OWNER = """
import sys
from invoicefs.kernel.stat_helper import StatHelper
helper = StatHelper(sys.argv[1])
helper.stat("/")
print(helper._process.pid, flush=True)
sys.stdin.read()
"""


def test_the_process_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", OWNER, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, cwd=REPOSITORY) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.kill()
    assert wait_for_exit(pid)
    eventually(lambda: not Path(f"/proc/{pid}").exists())
