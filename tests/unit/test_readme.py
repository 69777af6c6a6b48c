"""README's tables, links and pictures are what the program and the tests have."""

import re
from pathlib import Path

import click
import pytest

from invoicefs.cli import cli
from invoicefs.cli.mount import mount
from tests.desktop import costs
from tests.mount.support import ailments

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
HEADINGS = re.findall(r"^#+ (.*)", README, re.MULTILINE)
DEFAULT_IN_WORDS = re.compile(r"  \[default: (.*)\]$")
LINKS = re.findall(r"\]\(([^)]*)\)", README)


def anchor(heading: str) -> str:
    """What a heading is called in a link, on the sites that show README."""
    return "#" + re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")


def rows(heading: str) -> set[str]:
    """The rows of the table in a section, less its head."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| .*`.*", section, re.MULTILINE))


def option_row(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    in_words = DEFAULT_IN_WORDS.search(option.help or "")
    default = in_words[1] if in_words else option.default
    has_default = isinstance(default, str | int) and not (option.is_flag or option.count)
    what = DEFAULT_IN_WORDS.sub("", option.help or "")
    return f"| {names} | {default if has_default else ''} | {what} |"


def test_readme_has_the_options_with_their_defaults() -> None:
    options = (each for each in mount.params if isinstance(each, click.Option))
    assert rows("Options") == set(map(option_row, options))


def test_readme_has_the_commands() -> None:
    assert {row.split()[2].rstrip("`") for row in rows("Commands")} == set(cli.commands)


@pytest.mark.parametrize("link", LINKS)
def test_links_of_readme_lead_somewhere(link: str) -> None:
    if link.startswith("#"):
        assert link in map(anchor, HEADINGS)
    else:
        assert (REPOSITORY / link).is_file()


def test_readme_shows_the_table_of_the_fault_matrix() -> None:
    assert ailments.table() in README


def test_readme_shows_the_table_of_calls_of_a_desktop() -> None:
    assert costs.table() in README
