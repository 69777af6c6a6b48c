"""What commands print: lines, JSON and messages; and prompts for secrets."""

import json
import sys
from typing import NoReturn

import click

from invoicefs.api.redaction import escaped

INTERRUPTED = 130
"""The exit status that shells report for SIGINT."""


def prompt_for_secret(what: str) -> str:
    """Prompt for a secret, without echo."""
    secret: str = click.prompt(what, hide_input=True, err=True)
    return secret


def print_lines(*lines: str, err: bool = False) -> None:
    """Print lines; escape characters that are unprintable or not in the charset of the locale."""
    stream = sys.stderr if err else sys.stdout
    encoding = getattr(stream, "encoding", None) or "ascii"
    for line in lines:
        click.echo(escaped(line).encode(encoding, "backslashreplace").decode(encoding), err=err)


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, whose plural ends with an s."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def print_json(value: object) -> None:
    """Print a value as JSON, in ASCII."""
    click.echo(json.dumps(value, indent=2))  # at once, because a long list has a million lines


def print_message(name: str, sentence: str) -> None:
    """Print a message on stderr, with the name of the program."""
    print_lines(f"{name}: {sentence}", err=True)


def exit_with(failures: tuple[str, ...], ctx: click.Context) -> NoReturn:
    """Print these messages, and exit with status 1 if there are any, otherwise with 0."""
    for failure in failures:
        print_message("invoicefs", failure)
    ctx.exit(1 if failures else 0)
