"""The command ``invoicefs help``: shows a page of the manual with man(1)."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn

import click

from invoicefs.cli.completion import Item
from invoicefs.cli.options import examples
from invoicefs.cli.output import print_lines
from invoicefs.errors import UsageError, UserError

_DISTRIBUTION: Final = "invoicefs"
_PACKAGE: Final = Path(__file__).parents[1]
_MAIN_TOPIC: Final = "invoicefs"
# The pages that are not those of a command: their names and sections.
_OTHER_TOPICS: Final = {
    _MAIN_TOPIC: ("invoicefs", 1),
    "credentials": ("invoicefs-credentials", 7),
    "semantics": ("invoicefs-semantics", 7),
    "mount.invoicefs": ("mount.invoicefs", 8),
}


def _pages(ctx: click.Context) -> Mapping[str, tuple[str, int]]:
    """Return the names and sections of the pages by topic."""
    group = ctx.find_root().command
    assert isinstance(group, click.Group)
    return {**{name: (f"invoicefs-{name}", 1) for name in group.commands}, **_OTHER_TOPICS}


def _complete(ctx: click.Context, _: click.Parameter, typed: str) -> list[Item]:
    return [Item(topic) for topic in _pages(ctx) if topic.startswith(typed)]


@click.command(
    "help",
    epilog=examples("invoicefs help", "invoicefs help mount", "invoicefs help semantics"),
)
@click.argument("topic", metavar="[COMMAND]", default=_MAIN_TOPIC, shell_complete=_complete)
@click.pass_context
def help_(ctx: click.Context, /, topic: str) -> None:
    """Show the manual page of COMMAND, or that of invoicefs.

    COMMAND can also be credentials, semantics, mount.invoicefs, or the full name of a page, such as
    invoicefs-mount. Without man(1), prints the help of COMMAND.
    """
    pages = _pages(ctx)
    found = topic.removeprefix("invoicefs-")
    if found not in pages:
        raise UsageError(f"There is no page of {topic!r}: give one of {', '.join(pages)}.")
    name, section = pages[found]
    if man := shutil.which("man"):
        file = find_page(name, section)
        if file is not None:
            _replace_process(man, [str(file)])
        if _is_installed(man, name, section):
            _replace_process(man, [str(section), name])
    _print_help(ctx, found, f"{name}({section})")


def find_page(name: str, section: int) -> Path | None:
    """Return the file of a page: that of a checkout, or the one that pip has installed.

    Returns None if it is elsewhere, such as in the folder of a Debian package, or missing.
    """
    from importlib.metadata import PackageNotFoundError, distribution

    page = f"share/man/man{section}/{name}.{section}"
    if (file := _PACKAGE / page).is_file():
        return file
    try:
        # None if it was not installed by pip.
        installed = distribution(_DISTRIBUTION).files or ()
    except PackageNotFoundError:
        return None
    found = (Path(path.locate()) for path in installed if path.as_posix().endswith(f"/{page}"))
    return next((file.resolve() for file in found if file.is_file()), None)


def _is_installed(man: str, name: str, section: int) -> bool:
    """Return whether man(1) finds a page by its name."""
    import subprocess

    found = subprocess.run([man, "-w", str(section), name], capture_output=True, check=False)
    return found.returncode == 0


def _replace_process(program: str, arguments: list[str]) -> NoReturn:
    os.execv(program, [program, *arguments])  # noqa: S606 # no shell is needed


def _print_help(ctx: click.Context, topic: str, page: str) -> None:
    """Print what --help prints; raises `UserError` for a topic that is not a command."""
    root = ctx.find_root()
    assert isinstance(root.command, click.Group)
    command = root.command if topic == _MAIN_TOPIC else root.command.commands.get(topic)
    if command is None:
        raise UserError(f"{page} cannot be shown: apt install man-db.")
    shown = root if command is root.command else click.Context(command, root, info_name=topic)
    print_lines(*shown.get_help().split("\n"))
