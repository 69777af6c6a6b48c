"""Completion of values in bash, zsh and fish: files, folders, mount points and fixed words.

Files and folders are completed by the shell itself. This program never touches a path, because a
mount may hang. The scripts that run in the shells are click's.
"""

import os
import re
import shlex
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

if TYPE_CHECKING:
    Item = CompletionItem[str]
else:
    Item = CompletionItem  # not subscriptable in older versions of click

_WORD_BREAK: Final = re.compile("[=:]+")

Complete = Callable[[str], list[Item]]
"""A function that returns the completions of what has been typed of a value."""


def nothing(_: str) -> list[Item]:
    """Return no completions."""
    return []


def files(typed: str) -> list[Item]:
    """Have the shell complete the name of a file or folder."""
    return [CompletionItem(typed, type="file")]


def folders(typed: str) -> list[Item]:
    """Have the shell complete the name of a folder."""
    return [CompletionItem(typed, type="dir")]


def words(find_words: Callable[[], Iterable[str]]) -> Complete:
    """Return a function that completes the words that `find_words` returns."""

    def complete(typed: str) -> list[Item]:
        return [CompletionItem(word) for word in find_words() if word.startswith(typed)]

    return complete


def mount_points_or(complete: Complete) -> Complete:
    """Return a function that completes your mount points, and with `complete` what is typed."""

    def complete_mount_points(typed: str) -> list[Item]:
        found = [] if typed else _mount_points()
        return [CompletionItem(path) for path in found] or complete(typed)

    return complete_mount_points


def _mount_points() -> list[str]:
    """Return the mount points of this user that a line of text can show."""
    from invoicefs.mount.mountpoint import invoicefs_mounts

    paths = (mount.path for mount in invoicefs_mounts() if mount.uid == os.geteuid())
    return [path for path in dict.fromkeys(paths) if path.isprintable()]


@add_completion_class
class _Bash(BashComplete):
    """Completion for bash, for values that bash would split into several words."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor and the incomplete one, as the command gets them.

        Bash splits ``--url=https://HOST`` at each character in COMP_WORDBREAKS.
        """
        before, incomplete = super().get_completion_args()
        *joined, incomplete = _joined((*before, incomplete))
        return joined, incomplete

    def format_completion(self, item: Item) -> str:
        """Return a line for click's script; bash inserts a word as it is, so it is quoted."""
        if item.type == "plain":
            # The script reads the line without -r, so backslashes are doubled.
            item = CompletionItem(shlex.quote(item.value).replace("\\", "\\\\"))
        return super().format_completion(item)


def _joined(words: Iterable[str]) -> list[str]:
    """Join the words that bash has split at ``=`` and ``:``."""
    joined: list[str] = []
    is_continued = False
    for word in words:
        is_break = _WORD_BREAK.fullmatch(word) is not None
        if joined and (is_break or is_continued):
            joined[-1] += word
        else:
            joined.append(word)
        is_continued = is_break
    return joined


class _WholeWords(ShellComplete):
    """Completion for shells that treat ``--status=paid`` as one word."""

    def get_completions(self, args: list[str], incomplete: str) -> list[Item]:
        """Return the completions of the whole word."""
        found = super().get_completions(args, incomplete)
        name, equals, _ = incomplete.rpartition("=")
        if not (equals and name.startswith("--")):
            return found
        return [
            CompletionItem(f"{name}={item.value}") if item.type == "plain" else item
            for item in found
        ]


@add_completion_class
class _Zsh(_WholeWords, ZshComplete):
    """Completion for zsh, also of files in ``--token-file=FILE``.

    The script may be a file that zsh loads at the first Tab: a function, of which click's script
    completes nothing when it is called for the second time (measured).
    """

    source_template = ZshComplete.source_template.replace(
        "_path_files", "compset -P '--*='; _path_files"
    ).replace("$zsh_eval_context[-1] == loadautofunc", "$funcstack[1] == _%(prog_name)s")


@add_completion_class
class _Fish(_WholeWords, FishComplete):
    """Completion for fish, also of files in ``~/`` and ``--token-file=FILE``.

    The shell completes them itself, as for a command that it does not know.
    """

    source_template = FishComplete.source_template.replace(
        "__fish_complete_path $metadata[2]",
        'complete -C"__fish_command_without_completions "(commandline -t)',
    ).replace(
        "__fish_complete_directories $metadata[2]", "__fish_complete_directories (commandline -t)"
    )

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the incomplete one, and that one, without quotes and escapes.

        In click 8.1 the last one still has them, so it is not recognised among the words.
        """
        words = split_arg_string(os.environ["COMP_WORDS"])[1:]
        incomplete = next(iter(split_arg_string(os.environ["COMP_CWORD"])), "")
        if incomplete and words[-1:] == [incomplete]:
            words.pop()
        return words, incomplete
