"""Real mounts of an embedded API server, made by the real command.

The tests may run in several worker processes at once (``pytest -n 3``), which share a folder, the
machine's mounts and its FUSE device: a worker does not touch what another may be using.
"""

import ctypes.util
import fcntl
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

import pytest

from invoicefs.sandbox import Sandbox
from tests.mount.support.mounts import CHECKOUT, FUSERMOUNT, Mount, Mounts, sweep
from tests.mount.support.programs import missing, run

_FUSE_DEVICE = Path("/dev/fuse")
_PROGRAMS = (
    *("borg", "cpio", "file", "getfattr", "gio", "mksquashfs", "mutool", "pdftotext", "qpdf"),
    *("rclone", "restic", "rsync", "setpriv", "strace", "tar", "zip"),
)
_IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
_ORDINARY_FOLDER = "invoicefs-test-"  # prefix of an ordinary user's temporary folder
_NOBODY = 65_534
_AS_NOBODY = (
    "setpriv",
    f"--reuid={_NOBODY}",
    f"--regid={_NOBODY}",
    "--clear-groups",
    "--",
)
_AS_NOBODY_WITH_READ_ACCESS = (
    *_AS_NOBODY[:-1],
    "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search",
    "--",
)


def pytest_report_collectionfinish(items: Sequence[pytest.Item]) -> list[str]:
    """Report which prerequisites of these tests this machine has."""
    if not any(item.path.parent == Path(__file__).parent for item in items):
        return []
    has = {
        str(_FUSE_DEVICE): os.access(_FUSE_DEVICE, os.R_OK | os.W_OK) and "usable",
        "libfuse 2": ctypes.util.find_library("fuse"),
        "fusermount": shutil.which(FUSERMOUNT),
        **{program: shutil.which(program) for program in _PROGRAMS},
        "user": "root" if os.geteuid() == 0 else "not root",
    }
    return ["mounts: " + ", ".join(f"{name} {fact or 'MISSING'}" for name, fact in has.items())]


@pytest.fixture(scope="session", autouse=True)
def _machine() -> None:
    """Skip all of these tests, or fail them in CI, if nothing can be mounted."""
    if not os.access(_FUSE_DEVICE, os.R_OK | os.W_OK):
        missing(f"{_FUSE_DEVICE} is missing or not usable")
    if ctypes.util.find_library("fuse") is None:
        missing("libfuse 2 is missing")
    if shutil.which(FUSERMOUNT) is None:
        missing("fusermount is missing")


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_mounted(
    _machine: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Unmount dead mounts of earlier runs, and all mounts of this one when it ends."""
    mine = tmp_path_factory.getbasetemp()
    this_run = _folder_of_run(tmp_path_factory)
    ordinary = Path(tempfile.gettempdir()).glob(f"{_ORDINARY_FOLDER}*")
    for folder in (*this_run.parent.iterdir(), *ordinary):
        if folder != this_run and not folder.name.startswith(_ORDINARY_FOLDER + _RUN):
            sweep(folder, only_dead=True)
    yield
    sweep(mine, only_dead=False)


def _folder_of_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The temporary folder shared by all workers of this run."""
    mine = tmp_path_factory.getbasetemp()
    return mine.parent if _IS_WORKER else mine


def folder_for_others() -> tempfile.TemporaryDirectory[str]:
    """A temporary folder for mounts that other users can be let into, unlike `tmp_path`."""
    return tempfile.TemporaryDirectory(prefix=f"{_ORDINARY_FOLDER}{_RUN}-")


@pytest.fixture
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """An API server with the sample tenant, or with that of the marker `tenant`."""
    marker = request.node.get_closest_marker("tenant")
    with Sandbox(*marker.args if marker else ()) as sandbox:
        yield sandbox


@pytest.fixture
def mounts(sandbox: Sandbox, tmp_path: Path) -> Iterator[Mounts]:
    with closing(Mounts(sandbox, tmp_path)) as mounts:
        yield mounts


@pytest.fixture
def mount(mounts: Mounts) -> Mount:
    """The sample tenant, mounted with the default options."""
    return mounts.mount()


@pytest.fixture(scope="session")
def _fuse_device_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let all users access the FUSE device, as udev does; some containers restrict it to root.

    Each worker changes the mode, the first one records the original, the last one restores it.
    """
    if os.geteuid() != 0:
        yield
        return
    folder = _folder_of_run(tmp_path_factory)
    original_mode = folder / "mode-of-fuse-device"
    mode = stat.S_IMODE(_FUSE_DEVICE.stat().st_mode)
    with open(folder / "users-of-fuse-device", "w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        with suppress(FileExistsError), open(original_mode, "x") as file:
            file.write(str(mode))
        _FUSE_DEVICE.chmod(0o666)
        yield
        with suppress(BlockingIOError):
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _FUSE_DEVICE.chmod(int(original_mode.read_text()))


@pytest.fixture
def unprivileged_mounts(sandbox: Sandbox, _fuse_device_for_all: None) -> Iterator[Mounts]:
    """Mounts of an ordinary user: ``nobody`` if the tests are run by root.

    Their folder is not in `tmp_path`, see `folder_for_others`.
    """
    with folder_for_others() as name:
        folder = Path(name)
        prefix, command_prefix = _prefixes_of_ordinary_user()
        if prefix:
            os.chown(folder, _NOBODY, _NOBODY)
        with closing(Mounts(sandbox, folder, prefix, command_prefix)) as mounts:
            yield mounts


@pytest.fixture(params=["as the current user", "as an ordinary user"])
def anyones_mounts(request: pytest.FixtureRequest) -> Mounts:
    is_current_user = request.param == "as the current user"
    fixture = "mounts" if is_current_user else "unprivileged_mounts"
    mounts = request.getfixturevalue(fixture)
    assert isinstance(mounts, Mounts)
    return mounts


def _prefixes_of_ordinary_user() -> tuple[Sequence[str], Sequence[str]]:
    """Return the prefixes that run any program, and our own, as an ordinary user.

    If the interpreter or the checkout is in root's home, that user is granted permission to read
    it, for our own program only. It does not affect mounting: fusermount and the kernel check the
    user ID.
    """
    if os.geteuid() != 0:
        return (), ()
    # The program starts an interpreter itself: setpriv can start one that the user cannot.
    source = "import invoicefs, subprocess, sys; subprocess.run([sys.executable, '-V'], check=True)"
    program = (sys.executable, "-c", source)
    for prefix in (_AS_NOBODY, _AS_NOBODY_WITH_READ_ACCESS):
        if run(*prefix, *program, env={"PYTHONPATH": str(CHECKOUT)}, cwd=Path("/")).code == 0:
            break
    else:
        missing("an ordinary user cannot run the interpreter")
    return _AS_NOBODY, prefix
