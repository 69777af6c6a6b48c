"""``invoicefs help``: the page of a command in man(1), wherever it is installed, or its --help."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from invoicefs import cli
from invoicefs.cli import help as help_module
from tests.support.cli_stage import Run
from tests.support.share_files import SHARE

COMMAND_PAGES = {name: f"man1/invoicefs-{name}.1" for name in cli.cli.commands}
OTHER_PAGES = {
    "credentials": "man7/invoicefs-credentials.7",
    "semantics": "man7/invoicefs-semantics.7",
    "mount.invoicefs": "man8/mount.invoicefs.8",
}
NAMES_OF_PAGES = {
    "invoicefs": "man1/invoicefs.1",
    "invoicefs-cache": "man1/invoicefs-cache.1",
    "invoicefs-semantics": "man7/invoicefs-semantics.7",
}
REPOSITORY = SHARE.parents[1]
pytestmark = pytest.mark.usefixtures("no_variables")


@pytest.fixture
def man(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Provide a ``man`` that finds every page; it is not run, but its arguments are printed."""
    program = tmp_path / "bin" / "man"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))

    def execv(path: str, arguments: list[str]) -> NoReturn:
        sys.stdout.write(" ".join(arguments))
        raise SystemExit(0 if path == str(program) else 1)

    monkeypatch.setattr(os, "execv", execv)
    return program


@pytest.fixture
def no_man(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.promise(
    "`invoicefs help COMMAND` shows the manual page of a command, however it was installed, or the "
    "text of `--help` if there is no `man`."
)
@pytest.mark.parametrize(("topic", "page"), (COMMAND_PAGES | OTHER_PAGES | NAMES_OF_PAGES).items())
def test_help_shows_the_page_of_a_checkout(run: Run, man: Path, topic: str, page: str) -> None:
    ended = run("help", topic)

    assert (ended.code, ended.out, ended.err) == (0, f"{man} {SHARE}/man/{page}", "")


def test_help_without_a_command_shows_the_first_page(run: Run, man: Path) -> None:
    assert run("help").out == f"{man} {SHARE}/man/man1/invoicefs.1"


@pytest.mark.promise(
    "`invoicefs help COMMAND` shows the manual page of a command, however it was installed, or the "
    "text of `--help` if there is no `man`."
)
def test_a_page_that_pip_has_installed_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    packages = tmp_path / "lib" / "site-packages"
    metadata = packages / "invoicefs-1.dist-info"
    page = tmp_path / "share" / "man" / "man1" / "invoicefs.1"
    for folder in (metadata, page.parent):
        folder.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: invoicefs\nVersion: 1\n")
    (metadata / "RECORD").write_text(f"../../{page.relative_to(tmp_path)},,\n")
    page.touch()
    monkeypatch.syspath_prepend(packages)
    monkeypatch.setattr(help_module, "_PACKAGE", packages / "invoicefs")

    assert help_module.find_page("invoicefs", 1) == page


@pytest.mark.promise(
    "`invoicefs help COMMAND` shows the manual page of a command, however it was installed, or the "
    "text of `--help` if there is no `man`."
)
def test_a_page_elsewhere_is_shown_by_its_name(
    run: Run, man: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(help_module, "find_page", lambda *_: None)

    assert run("help", "semantics").out == f"{man} 7 invoicefs-semantics"


@pytest.mark.promise(
    "`invoicefs help COMMAND` shows the manual page of a command, however it was installed, or the "
    "text of `--help` if there is no `man`."
)
@pytest.mark.usefixtures("no_man")
@pytest.mark.parametrize("arguments", [[], ["mount"], ["cache"], ["help"]])
def test_without_man_help_prints_the_help_of_the_command(run: Run, arguments: list[str]) -> None:
    assert run("help", *arguments) == run(*arguments, "--help")


def test_without_the_page_help_prints_the_help_of_the_command(
    run: Run, man: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(help_module, "find_page", lambda *_: None)
    man.write_text("#!/bin/sh\nexit 16\n")  # what man(1) returns for a page that does not exist

    assert run("help", "mount") == run("mount", "--help")


@pytest.mark.usefixtures("no_man")
@pytest.mark.parametrize("topic", OTHER_PAGES)
def test_without_man_a_page_of_no_command_is_one_sentence(run: Run, topic: str) -> None:
    ended = run("help", topic)

    assert (ended.code, ended.out) == (1, "")
    assert ended.err.count("\n") == 1
    assert "man-db" in ended.err


def test_help_for_an_unknown_command_names_the_commands(run: Run) -> None:
    ended = run("help", "nonsense")

    assert (ended.code, ended.out) == (2, "")
    assert "nonsense" in ended.sentence
    for topic in (*COMMAND_PAGES, *OTHER_PAGES):
        assert topic in ended.sentence


@pytest.mark.parametrize(("typed", "expected"), [("ver", ["verify"]), ("cre", ["credentials"])])
def test_the_command_of_help_is_completed(typed: str, expected: list[str]) -> None:
    variables = {"COMP_WORDS": f"invoicefs help {typed}", "COMP_CWORD": "2"}
    completed = subprocess.run(
        [sys.executable, "-m", "invoicefs"],
        cwd=REPOSITORY,
        env={**os.environ, "_INVOICEFS_COMPLETE": "bash_complete", **variables},
        capture_output=True,
        text=True,
        check=True,
    )

    assert [line.rpartition(",")[2] for line in completed.stdout.split()] == expected
