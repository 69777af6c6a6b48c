"""The conventions of mount(8): ``-o`` lists, and the arguments of a mount helper.

Both are converted to arguments of ``invoicefs mount``: ``-o list_ttl=5m,allow_other`` is the same
as ``--list-ttl=5m --allow-other``. The generic options of mount(8) and fstab(5) are accepted and
ignored: the mount is always read-only.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from invoicefs.errors import UsageError

_GENERIC: Final = re.compile(
    "rw|ro|defaults|_netdev|sync|async|dirsync|silent|loud|"
    "(no)?(auto|fail|user|users|owner|group|exec|dev|suid|"
    "atime|diratime|relatime|strictatime|lazytime|iversion|mand|symfollow)"
)
NOT_IN_FSTAB: Final = {
    "url": "'url' is not an option here: the URL is the first field of the line.",
    "foreground": "'foreground' is not an option here: mount(8) would wait until it is unmounted.",
}
"""The options that only ``invoicefs mount`` has, and what to say if fstab has them."""

_REFUSALS: Final = {
    **NOT_IN_FSTAB,
    "remount": "a mount cannot be changed: unmount it, then mount it again.",
}
_GENERIC_PREFIXES: Final = ("x-", "X-", "comment=", "user=")
# Commas inside double quotes belong to a value, see FILESYSTEM-INDEPENDENT MOUNT OPTIONS.
_OPTION = re.compile(r'(?:[^,"]|"[^"]*")+')


class HelperCall(NamedTuple):
    """A run of the mount helper: source, mount point, and arguments for ``invoicefs mount``.

    `is_fake` is mount's ``-f``: check the options and the credential, but do not mount.
    """

    source: str
    mount_point: str
    arguments: tuple[str, ...]
    is_fake: bool


def arguments_of(
    text: str, takes_value: Mapping[str, bool], *, is_sloppy: bool = False
) -> Iterator[str]:
    """Yield the arguments for an ``-o`` list.

    `takes_value` has the names of the command's options, as in ``list_ttl``, and whether they take
    a value. Raises `UsageError` for an invalid list; a sloppy mount ignores unknown options.
    """
    if text.count('"') % 2:
        raise UsageError("-o: a double quote is not closed.")
    for option in _OPTION.findall(text):
        word = option.strip()
        if not word or _GENERIC.fullmatch(word) or word.startswith(_GENERIC_PREFIXES):
            continue
        name, has_value, value = option.partition("=")
        name = name.strip()
        if name not in takes_value:
            if is_sloppy:
                continue
            unknown = f"there is no option {name!r}: see invoicefs mount --help."
            raise UsageError(f"-o: {_REFUSALS.get(name, unknown)}")
        if takes_value[name] and not _unquoted(value):
            raise UsageError(f"-o: {name} needs a value, as in {name}=VALUE.")
        if has_value and not takes_value[name]:
            raise UsageError(f"-o: {name} takes no value.")
        dashed = "--" + name.replace("_", "-")
        yield f"{dashed}={_unquoted(value)}" if has_value else dashed


def parse_helper_call(arguments: Sequence[str], takes_value: Mapping[str, bool]) -> HelperCall:
    """Parse the arguments of a mount helper: ``SOURCE DIR [-sfnv] [-o OPTIONS] [-t TYPE]``.

    Without `-s`, options of `NOT_IN_FSTAB` are refused. Raises `UsageError` for invalid arguments.
    """
    operands: list[str] = []
    options: list[str] = []
    flags = ""
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("-") or argument == "-":
            operands.append(argument)
        elif argument[:2] in ("-o", "-t"):
            value = argument[2:] or next(rest, None)
            if value is None:
                raise UsageError(f"{argument} needs a value.")
            options += [value] if argument.startswith("-o") else []
        elif re.fullmatch("-[sfnvrw]+", argument):
            flags += argument[1:]
        else:
            name = argument.partition("=")[0]  # the value may be a secret
            raise UsageError(f"There is no option {name}: mount.invoicefs URL DIR -o OPTIONS.")
    if len(operands) != 2:
        raise UsageError("A URL and a mount point are needed: mount.invoicefs URL DIR -o OPTIONS.")
    is_sloppy = "s" in flags
    known = {name: takes for name, takes in takes_value.items() if name not in NOT_IN_FSTAB}
    found = [
        argument for text in options for argument in arguments_of(text, known, is_sloppy=is_sloppy)
    ]
    verbose = ["-v"] * flags.count("v")
    return HelperCall(operands[0], operands[1], (*verbose, *found), is_fake="f" in flags)


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
