"""The format of profiles, which is that of systemd's EnvironmentFile, see systemd.exec(5).

The rules are those of systemd since version 254, with two exceptions, both errors here: a line that
is not an assignment, which systemd ignores, and a quote that is not closed.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from invoicefs.errors import UserError

_LINE: Final = re.compile(
    r"""
    [ \t]*
    (?:
        [#;][^\r\n]*
      |
        (?P<name>[A-Za-z_][A-Za-z0-9_]*) [ \t]* =
        (?P<quoted> (?: [ \t]* (?: '[^']*' | "(?:[^"\\]|\\.)*" ) )* ) [ \t]*
        (?P<bare> (?: (?!['"]) {character} (?: [ \t]* {character} )* )? )
    )?
    [ \t]* (?:\r\n|[\r\n]|\Z)
    """.replace("{character}", r"(?:[^\\ \t\r\n]|\\.)"),
    re.VERBOSE | re.DOTALL,
)
_QUOTED: Final = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)\"""", re.DOTALL)
_ESCAPE_IN_QUOTES: Final = re.compile(r'\\(?:\n|(["\\`$]))')
_ESCAPE: Final = re.compile(r"\\(?:[\r\n]|(.))", re.DOTALL)
_NEEDS_ESCAPE: Final = re.compile(r'["\\`$]')
_NEEDS_NO_QUOTES: Final = re.compile(r"[A-Za-z0-9_./:@%+=,-]+")


class Assignment(NamedTuple):
    """An assignment in a file, which reaches from `start` to `end`, with its line feed."""

    name: str
    value: str
    start: int
    end: int

    def __repr__(self) -> str:
        return f"<the assignment of {self.name}>"  # the value may be a secret


def parse_assignments(text: str, what: str) -> tuple[Assignment, ...]:
    """Return the assignments in a text; `what` names it, like ``the file /x``.

    Raises `UserError` with the number of an invalid line, but not its content, which may be secret.
    """
    if "\0" in text:
        raise UserError(f"There is a NUL in {what}: it is not a text file.")
    found = []
    end = 0
    while end < len(text):
        line = _LINE.match(text, end)
        if line is None:
            number = len(re.findall(r"\r\n|[\r\n]", text[:end])) + 1
            raise UserError(
                f"Line {number} of {what} is not NAME=VALUE, or lacks a closing quote: edit the "
                "file, or remove it."
            )
        end = line.end()
        if line["name"]:
            value = _unquoted(line["quoted"]) + _ESCAPE.sub(r"\1", line["bare"])
            found.append(Assignment(line["name"], value, line.start(), end))
    return tuple(found)


def replace_assignments(
    text: str, removed: Iterable[str], added: Mapping[str, str], what: str
) -> str:
    """Return the text without the assignments of some names, and with others in their place.

    All other lines, such as comments, are kept. Raises what `parse_assignments` raises.
    """
    names = {*removed, *added}
    old = [assignment for assignment in parse_assignments(text, what) if assignment.name in names]
    kept = []
    end = 0
    for assignment in old:
        kept.append(text[end : assignment.start])
        end = assignment.end
    kept.append(text[end:])
    if not old and text and not text.endswith("\n"):
        kept[0] += "\n"
    new = "".join(f"{name}={_quoted(value)}\n" for name, value in added.items())
    return kept[0] + new + "".join(kept[1:]) if old else kept[0] + new


def _quoted(value: str) -> str:
    """Return a value as systemd, a POSIX shell and `parse_assignments` read it."""
    if _NEEDS_NO_QUOTES.fullmatch(value):
        return value
    if "'" not in value and "\\" not in value:
        return f"'{value}'"
    return '"' + _NEEDS_ESCAPE.sub(r"\\\g<0>", value) + '"'


def _unquoted(text: str) -> str:
    return "".join(
        single or _ESCAPE_IN_QUOTES.sub(r"\1", double) for single, double in _QUOTED.findall(text)
    )
