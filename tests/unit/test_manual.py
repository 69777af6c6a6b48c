"""The manual pages and the completion files: they match the program, and man(1) can show them."""

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ZshComplete

from invoicefs import cli
from invoicefs.cli.output import INTERRUPTED
from invoicefs.credentials import profiles, sources
from invoicefs.kernel.errnos import ERRNO
from tests.mount.support.programs import missing
from tests.support import share_files

MAN = share_files.SHARE / "man"
PAGES = {page.name: page.read_text(encoding="utf-8") for page in share_files.pages()}
COMMANDS = dict(share_files.commands())
OPTIONS_OF_OTHERS = {"--help", "--user", "--now", "--delete"}
OLD_CLICK = "loadautofunc" not in ZshComplete.source_template  # before 8.1.4


def section(page: str, title: str) -> str:
    found = re.search(
        rf'^\.SH "?{title}"?\n(.*?)(?=^\.SH |\Z)', PAGES[page], re.DOTALL | re.MULTILINE
    )
    assert found, f"{page} has no section {title}"
    return found[1]


def exit_statuses(page: str) -> set[int]:
    return set(map(int, re.findall(r"^\.TP\n(\d+)$", section(page, "EXIT STATUS"), re.MULTILINE)))


def named(pattern: str, text: str) -> set[str]:
    """The names in bold that match a pattern."""
    return {name.replace("\\-", "-") for name in re.findall(rf"\\fB({pattern})\\fR", text)}


def references(text: str) -> set[str]:
    """The pages of ours that a page names, as names of files."""
    found = re.findall(r"\\fB((?:mount\.)?invoicefs(?:\\-\w+)?)\\fR\((\d)\)", text)
    return {f"{name}.{number}".replace("\\-", "-") for name, number in found}


def names_of(variables: sources.Names) -> Iterator[str]:
    yield from [variables] if isinstance(variables, str) else variables


@pytest.mark.promise(
    "The manual pages list every option of every command, with its default and its variable."
)
@pytest.mark.parametrize("page", share_files.pages(), ids=lambda page: page.name)
def test_a_page_lists_the_options_of_its_commands(page: Path) -> None:
    text = PAGES[page.name]

    assert share_files.page_text(text) == text, "run scripts/update-share"


@pytest.mark.promise(
    "The manual pages list every option of every command, with its default and its variable."
)
def test_every_command_has_a_list_of_its_options_in_its_page() -> None:
    for name, command in COMMANDS.items():
        page = "-".join(name.split()[:2]) + ".1"
        if not isinstance(command, click.Group) or name == "invoicefs":
            assert f'.\\" BEGIN options of {name}\n' in PAGES[page]


@pytest.mark.promise(
    "The manual pages list every option of every command, with its default and its variable."
)
def test_an_option_is_listed_with_its_value_its_default_and_its_variable() -> None:
    @click.command()
    @click.option("--old", hidden=True)
    @click.option(
        "-n", "--new", default="a-b", show_default=True, envvar="NEW", help="Use. See --old."
    )
    def command() -> None: ...

    lines = tuple(share_files.option_lines(command))

    assert lines == (
        ".TP",
        r"\fB\-n\fR, \fB\-\-new\fR \fITEXT\fR",
        "Use.",
        r"See \fB\-\-old\fR.",
        ".br",
        r"Default: a\-b.",
        r"Environment variable: \fBNEW\fR.",
    )


@pytest.mark.skipif(OLD_CLICK, reason="click has printed these scripts since 8.1.4")
@pytest.mark.parametrize("shell", share_files.COMPLETION)
def test_a_completion_file_is_what_the_command_prints(shell: str) -> None:
    text = share_files.COMPLETION[shell].read_text(encoding="utf-8")

    assert text == share_files.completion_script(shell), "run scripts/update-share"


def test_every_page_is_named_by_another_page_and_every_named_page_exists() -> None:
    named_by_others = set()
    for page, text in PAGES.items():
        named_by_others |= references(text) - {page}

    assert named_by_others == set(PAGES)


def test_every_example_is_named_by_a_page() -> None:
    examples = {file.name for file in (share_files.SHARE / "doc/invoicefs/examples").iterdir()}

    assert examples <= named(r"[\w.\\-]+", "".join(PAGES.values()))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_only_options_and_variables_that_exist(page: str) -> None:
    options = {
        name for command in COMMANDS.values() for param in command.params for name in param.opts
    }
    variables = {
        str(param.envvar)
        for command in COMMANDS.values()
        for param in command.params
        if param.envvar
    }
    variables |= {*sources.OUR_VARIABLES.values(), profiles.ARCHIVE_VARIABLE}
    variables |= {profiles.MOUNT_POINT_VARIABLE}
    text = re.sub(r"\\f[BIR]", " ", PAGES[page]).replace("\\-", "-")

    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text)) <= options | OPTIONS_OF_OTHERS
    assert set(re.findall(r"INVOICEFS_[A-Z0-9_]+", text)) <= variables


def test_the_page_of_credentials_has_the_variables_of_all_sources() -> None:
    known = {
        variable
        for source in (sources.OUR_VARIABLES, sources._F5XC, sources._TERRAFORM)
        for variables in source.values()
        for variable in names_of(variables)
    }
    page = PAGES["invoicefs-credentials.7"]

    assert named("(?:F5XC|VOLT|VES)_[A-Z0-9_]+", page) == {
        variable for variable in known if not variable.startswith("INVOICEFS_")
    }
    assert known <= named("[A-Z0-9_]+", page)
    assert set(sources._VESCTL.values()) <= named("[a-z0-9\\\\-]+", page)


def test_the_page_of_semantics_has_the_errors_that_programs_get() -> None:
    errors = {errno.ENOTCONN, *ERRNO.values()}
    listed = re.findall(
        r"^\.TP\n\\fB(\w+)\\fR \((.*)\)$", section("invoicefs-semantics.7", "ERRORS"), re.M
    )

    assert dict(listed) == {errno.errorcode[number]: os.strerror(number) for number in errors}


def test_the_pages_have_the_exit_statuses_of_the_programs() -> None:
    ours = {0, *cli._OURS, INTERRUPTED}

    assert exit_statuses("mount.invoicefs.8") == {0, *cli._OF_MOUNT}
    assert exit_statuses("invoicefs-semantics.7") == ours
    for page in PAGES:
        if page.endswith(".1"):
            assert {0, 1, 2} <= exit_statuses(page) <= ours


@pytest.mark.parametrize("page", share_files.pages(), ids=lambda page: page.name)
@pytest.mark.parametrize(
    "command",
    [
        ("mandoc", "-Tlint", "-Wstyle"),
        ("man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"),
    ],
    ids=lambda command: command[0],
)
def test_a_page_is_shown_without_warnings(page: Path, command: tuple[str, ...]) -> None:
    if shutil.which(command[0]) is None:
        missing(f"the program {command[0]} is missing")
    environment = {"LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"}  # as lintian does

    shown = subprocess.run(
        [*command, page], env={**os.environ, **environment}, capture_output=True, check=False
    )

    warnings = shown.stderr if command[0] == "man" else shown.stdout + shown.stderr
    assert (shown.returncode, warnings.decode()) == (0, "")
