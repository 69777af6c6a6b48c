"""The documents: their options, commands, tables and links are those of the program."""

import re
from pathlib import Path

import click
import pytest

from invoicefs.cli import cli
from tests.desktop import costs
from tests.mount.support import failures

REPOSITORY = Path(__file__).parents[2]
PAGES = {
    path: (REPOSITORY / path).read_text(encoding="utf-8")
    for path in ("README.md", "invoicefs/README.md", "tests/README.md", "tests/bench/README.md")
}
README = PAGES["README.md"]
LINKS = [
    (page, link) for page, text in PAGES.items() for link in re.findall(r"\]\(([^)]*)\)", text)
]
COMMANDS = re.findall(r"^\| `invoicefs (\w+)", README, re.MULTILINE)


def anchors(text: str) -> set[str]:
    """Return the anchors of a page, as the sites that show it name them."""
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    return {"#" + re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def options(command: click.Command) -> set[str]:
    names = {name for param in command.params for name in param.opts if name.startswith("--")}
    for inner in getattr(command, "commands", {}).values():
        names |= options(inner)
    return names


def test_readme_fits_on_250_lines() -> None:
    assert len(README.splitlines()) <= 250


def test_readme_has_the_commands() -> None:
    assert set(COMMANDS) == set(cli.commands)


def test_readme_names_only_options_that_exist() -> None:
    of_others = {"--autoremove", "--delete", "--force", "--help", "--now", "--system", "--user"}
    named = set(re.findall(r"--[a-z][a-z0-9-]+", README)) - of_others
    assert named <= options(cli)


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_links_lead_somewhere(page: str, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (REPOSITORY / page).parent / path if path else REPOSITORY / page
    assert target.is_file()
    assert not anchor or f"#{anchor}" in anchors(target.read_text(encoding="utf-8"))


def test_the_architecture_names_only_modules_that_exist() -> None:
    modules = re.findall(r"`((?:\w+/)+\w+\.py)`", PAGES["invoicefs/README.md"])
    missing = [
        module
        for module in modules
        if not any((REPOSITORY / folder / module).is_file() for folder in ("invoicefs", "."))
    ]
    assert modules
    assert not missing


def test_the_fault_matrix_is_the_one_that_is_tested() -> None:
    assert failures.table() in PAGES["tests/README.md"]


def test_the_requests_of_a_desktop_are_those_that_are_tested() -> None:
    assert costs.table() in PAGES["tests/README.md"]
