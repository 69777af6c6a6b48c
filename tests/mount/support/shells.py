"""Interactive shells in a pseudo-terminal, in which Tab completes the arguments of the command."""

import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.mount.support.programs import LIMIT_S, missing, wait_for_exit
from tests.support.share_files import COMPLETION

SHELLS: Final[Mapping[str, Sequence[str]]] = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "zsh": ("zsh", "-f", "-i"),
    "fish": ("fish", "--no-config", "-i"),
}
_SET_UP: Final = {  # as the shells do with the files that a package installs
    "bash": f"source {COMPLETION['bash']}",
    "zsh": f"fpath=({COMPLETION['zsh'].parent} $fpath); autoload -U compinit; compinit -u -D",
    "fish": f"set -p fish_complete_path {COMPLETION['fish'].parent}",
}
_WORDS: Final = re.compile("<BEGIN>((?:<[^>]*>)+)[^<>]*<END>")
_WORD: Final = re.compile("<([^>]*)>")
_TO_START, _TO_END, _TAB = "\x01", "\x05", "\t"


def completed(
    shell: str, lines: Sequence[str], env: Mapping[str, str], cwd: Path, prefix: Sequence[str] = ()
) -> list[list[str]]:
    """Type each line and Tab, and return the words that the shell then has.

    `env` has a PATH with ``invoicefs``; `prefix` starts the shell.
    """
    if shutil.which(shell) is None:
        missing(f"the program {shell} is missing")
    master, slave = os.openpty()
    process = subprocess.Popen(
        [*prefix, "setsid", "--ctty", "--wait", *SHELLS[shell]],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={"TERM": "dumb", "LC_ALL": "C.UTF-8", **env},
        cwd=cwd,
    )
    os.close(slave)
    try:
        _type(master, f"{_SET_UP[shell]}; echo '<'BEGIN'><'ready'><'END'>'\n")
        return [_words_after_tab(master, line) for line in lines]
    finally:
        os.write(master, b"exit\n")
        if not wait_for_exit(process.pid):
            process.kill()
        process.wait()
        os.close(master)


def _words_after_tab(master: int, line: str) -> list[str]:
    # The shell reads all keys in turn: no need to wait until it has completed the line.
    show = f"{_TO_START}printf '<%s>' BEGIN {_TO_END}; echo '<'END'>'\n"
    return _type(master, f"{line}{_TAB}{show}")


def _type(master: int, keys: str) -> list[str]:
    """Type keys, and return the words that are shown between BEGIN and END."""
    os.write(master, keys.encode())
    shown, ends_s = "", time.monotonic() + LIMIT_S
    while not (found := _WORDS.search(shown)):
        assert select.select([master], [], [], ends_s - time.monotonic())[0], shown
        shown += os.read(master, 65_536).decode("utf-8", "replace")
    return _WORD.findall(found[1])
