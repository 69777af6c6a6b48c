"""Fixtures that several test files of this tier share."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from invoicefs import cli
from invoicefs.credentials.load import Credentials
from invoicefs.settings import Settings
from invoicefs.store.store import Store
from tests.support.cli_stage import Mounted, Run, runner
from tests.support.scheduler_stage import SetStage, Stage
from tests.support.store_folder import OpenStore, opening


@pytest.fixture
def set_stage() -> Iterator[SetStage]:
    """Return a function that makes the stage of a test."""
    with contextlib.ExitStack() as stages:
        yield lambda **limits: stages.enter_context(Stage(**limits))


@pytest.fixture
def stage(set_stage: SetStage) -> Stage:
    return set_stage()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def open_(folder: Path) -> Iterator[OpenStore]:
    with opening(folder) as open_:
        yield open_


@pytest.fixture
def store(open_: OpenStore) -> Store:
    return open_()


@pytest.fixture
def public() -> Iterator[Path]:
    """Return a folder that all users can enter; those of pytest are private."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)  # noqa: S103
        yield Path(name)


@pytest.fixture
def no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the tenant of this machine: no variables, and an empty home."""
    for variable in list(os.environ):
        if variable.startswith(("INVOICEFS_", "F5XC_", "VOLT_", "VES_")):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``invoicefs`` with these arguments."""
    return runner("invoicefs", cli.main, monkeypatch, capsys)


@pytest.fixture
def run_helper(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``mount.invoicefs`` with these arguments."""
    return runner("mount.invoicefs", cli.main_of_mount_helper, monkeypatch, capsys)


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> list[Mounted]:
    """Replace the mount; return the list of its calls."""
    calls: list[Mounted] = []

    def mount(
        settings: Settings, credentials: Credentials, path: str, *, failures: object, **rest: Any
    ) -> None:
        del failures  # see the tests of the log
        calls.append(Mounted(settings, credentials, path, **rest))

    monkeypatch.setattr("invoicefs.mount.lifecycle.mount", mount)
    return calls


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Replace the configuration of the log, which is global; return the list of its calls."""
    calls: list[dict[str, object]] = []

    def configure(**rest: object) -> None:
        calls.append(rest)

    monkeypatch.setattr("invoicefs.mount.logs.configure", configure)
    return calls
