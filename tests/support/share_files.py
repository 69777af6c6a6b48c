r"""The files in ``invoicefs/share`` that follow from the commands: ``scripts/update-share``.

These are the completion scripts, and the lists in the manual pages between the lines
``.\" BEGIN ...`` and ``.\" END``. The rest of a page is written by hand, in man(7).
"""

import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class

from invoicefs.cli import cli
from invoicefs.cli.fstab import NOT_IN_FSTAB
from invoicefs.cli.mount import mount

SHARE: Final = Path(__file__).parents[2] / "invoicefs" / "share"
COMPLETION: Final = {
    "bash": SHARE / "bash-completion/completions/invoicefs",
    "zsh": SHARE / "zsh/site-functions/_invoicefs",
    "fish": SHARE / "fish/vendor_completions.d/invoicefs.fish",
}

_COLUMNS: Final = 79  # mandoc complains of lines that are longer
_LIST: Final = re.compile(r'^(\.\\" BEGIN (.+))\n(?:.*\n)*?(\.\\" END)$', re.MULTILINE)
_DEFAULT_IN_HELP: Final = re.compile(r"\s*\[default: (.*)\]$")
_OPTION_IN_HELP: Final = re.compile(r"(?<![\w-])--([a-z][a-z0-9-]+)")
_NOT_IN_FSTAB: Final = frozenset(f"--{name}" for name in NOT_IN_FSTAB)
_ROFF: Final = str.maketrans({"\\": "\\e", "-": "\\-", "~": "\\(ti", "'": "\\(aq", "`": "\\(ga"})


def main() -> None:
    """Write the files that have changed, and print their names."""
    for file, text in files().items():
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{file.relative_to(SHARE)}\n")


def files() -> Mapping[Path, str]:
    """Return the texts that the files should have."""
    return {
        **{file: completion_script(shell) for shell, file in COMPLETION.items()},
        **{page: page_text(page.read_text(encoding="utf-8")) for page in pages()},
    }


def pages() -> tuple[Path, ...]:
    """Return the manual pages."""
    return tuple(sorted(SHARE.glob("man/man*/*")))


def completion_script(shell: str) -> str:
    """Return what ``_INVOICEFS_COMPLETE=SHELL_source invoicefs`` prints."""
    complete = get_completion_class(shell)
    assert complete is not None
    return complete(cli, {}, "invoicefs", "_INVOICEFS_COMPLETE").source() + "\n"


def page_text(text: str) -> str:
    """Return the text of a page, with lists that match the commands."""

    def updated(match: re.Match[str]) -> str:
        begin, what, end = match.groups()
        return "\n".join([begin, *_items(what), end])

    return _LIST.sub(updated, text)


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield all commands with their names, such as ``invoicefs cache info``."""
    yield "invoicefs", cli
    yield from _commands_below("invoicefs", cli)


def _commands_below(prefix: str, group: click.Group) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if command.hidden:
            continue
        yield f"{prefix} {name}", command
        if isinstance(command, click.Group):
            yield from _commands_below(f"{prefix} {name}", command)


def _items(what: str) -> Iterator[str]:
    """Yield the lines of a list."""
    if what == "commands":
        for name, command in cli.commands.items():
            summary = command.get_short_help_str(limit=200)
            yield from (".TP", f"\\fBinvoicefs\\-{name}\\fR(1)", *_wrapped(_roff(summary)))
        return
    if what == "options of mount.invoicefs":
        for option in _options(mount):
            if _NOT_IN_FSTAB.isdisjoint(option.opts) and option.opts[-1].startswith("--"):
                yield from (".TP", _fstab_name(option), *_description(option, in_fstab=True))
        return
    yield from option_lines(dict(commands())[what.removeprefix("options of ")])


def option_lines(command: click.Command) -> Iterator[str]:
    """Yield the lines of the list of a command's options, without hidden ones and --help."""
    for option in _options(command):
        yield from (".TP", _names(option), *_description(option))


def _options(command: click.Command) -> Iterator[click.Option]:
    for param in command.params:
        if isinstance(param, click.Option) and not param.hidden:
            yield param


def _names(option: click.Option) -> str:
    names = ", ".join(f"\\fB{name}\\fR".replace("-", "\\-") for name in option.opts)
    value = _value(option)
    return f"{names} {value}" if value else names


def _fstab_name(option: click.Option) -> str:
    name = option.opts[-1].removeprefix("--").replace("-", "_")
    value = _value(option)
    return f"\\fB{name}\\fR={value}" if value else f"\\fB{name}\\fR"


def _value(option: click.Option) -> str:
    if option.is_flag or option.count:
        return ""
    if isinstance(option.type, click.Choice):
        return "|".join(f"\\fB{_roff(choice)}\\fR" for choice in option.type.choices)
    return f"\\fI{_roff(option.metavar or option.type.name.upper())}\\fR"


def _description(option: click.Option, *, in_fstab: bool = False) -> Iterator[str]:
    """Yield a line for each sentence: the help text, the default, and the variable."""
    text = option.help or ""
    default = str(option.default) if option.show_default else ""
    if embedded := _DEFAULT_IN_HELP.search(text):
        text, default = text[: embedded.start()], embedded[1]
    for sentence in re.split(r"(?<=\.) +", text):
        yield from _wrapped(_sentence(sentence, in_fstab=in_fstab))
    facts = [f"Default: {_sentence(default, in_fstab=in_fstab)}."] if default else []
    if option.envvar and not in_fstab:
        facts.append(f"Environment variable: \\fB{option.envvar}\\fR.")
    if facts:
        yield from (".br", *facts)


def _sentence(text: str, *, in_fstab: bool) -> str:
    """Return a sentence of a help text, with the names of options in bold."""

    def name(match: re.Match[str]) -> str:
        return match[1].replace("-", "_") if in_fstab else match[0]

    parts = _OPTION_IN_HELP.sub(lambda match: f"\0{name(match)}\0", text).split("\0")
    return "".join(
        f"\\fB{_roff(part)}\\fR" if number % 2 else _roff(part) for number, part in enumerate(parts)
    )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _COLUMNS, break_long_words=False, break_on_hyphens=False)


def _roff(text: str) -> str:
    """Return text in which roff finds nothing special."""
    return text.translate(_ROFF)


if __name__ == "__main__":
    main()
