"""The demo shows a real mount and leaves nothing behind."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mount.support.mounts import CHECKOUT, is_mounted, processes_of, sweep
from tests.mount.support.programs import Argument, Running, eventually, started


@contextmanager
def demo(temporary: Path, *arguments: Argument) -> Iterator[Running]:
    """The demo, with its own folder for temporary files."""
    temporary.mkdir()
    env = {
        "HOME": str(temporary / "nosuch"),
        "TMPDIR": str(temporary),
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    argv = (sys.executable, "-m", "invoicefs", "demo", *arguments)
    try:
        with started(*argv, env=env, cwd=Path("/")) as running:
            yield running
    finally:
        sweep(temporary, only_dead=False)


def test_once_shows_the_tree_an_invoice_and_refusals_and_exits(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    with demo(temporary, "--once") as running:
        ended = running.end().good()
    for words in (
        "retail-emea/",
        "invoice-acme-2026-10.pdf",
        "Customer edge sites",
        "invoice-acme-2026-07.pdf is listed, but not paid",
        "legal/ cannot be listed",
        "1 for namespaces",
    ):
        assert words in ended.text
    assert "Traceback" not in ended.text + ended.err
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_demo_and_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    temporary = tmp_path / "tmp"
    folder = tmp_path / "invoices"
    with demo(temporary, folder) as running:
        while "Ctrl-C" not in (line := running.line()):
            assert line or not running.has_ended
        assert is_mounted(folder)
        os.kill(running.process.pid, number)
        ended = running.end().good()
    assert "Traceback" not in ended.err
    assert not is_mounted(folder)
    assert not folder.exists()
    assert list(temporary.iterdir()) == []
    eventually(lambda: processes_of(folder) == ())


def test_an_existing_folder_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "invoices"
    folder.mkdir()
    with demo(tmp_path / "tmp", "--once", folder) as running:
        running.end().good()
    assert list(folder.iterdir()) == []


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "invoices"
    folder.mkdir()
    (folder / "mine").touch()
    with demo(tmp_path / "tmp", "--once", folder) as running:
        ended = running.end()
    assert ended.code == 1
    assert "is not empty" in ended.err
    assert (folder / "mine").exists()
    assert list((tmp_path / "tmp").iterdir()) == []
