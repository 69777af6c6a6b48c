"""Another revision of this repository, to compare with the files of this checkout."""

import compileall
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.mount.support.mounts import CHECKOUT
from tests.mount.support.programs import Argument, Ended, run


def commit_of(revision: str, repository: Path = CHECKOUT) -> str | None:
    """Return the abbreviated hash of the commit that a revision names, or None."""
    wanted = ("--end-of-options", f"{revision}^{{commit}}")
    found = _git(repository, "rev-parse", "--verify", "--short", *wanted)
    return found.text.strip() if found.code == 0 else None


@contextmanager
def checked_out(commit: str, folder: Path, repository: Path = CHECKOUT) -> Iterator[Path]:
    """Check out a commit into a new folder, which is removed afterwards."""
    _git(repository, "worktree", "prune").good()  # of killed runs, whose folders are removed
    try:
        _git(repository, "worktree", "add", "--quiet", "--detach", folder, commit).good()
        # Otherwise only the other revision would have to be compiled when it is mounted.
        for checkout in (repository, folder):
            compileall.compile_dir(checkout / "invoicefs", quiet=2)
        yield folder
    finally:
        _git(repository, "worktree", "remove", "--force", folder)


def _git(repository: Path, *arguments: Argument) -> Ended:
    return run("git", "-C", repository, *arguments, env={"HOME": os.environ.get("HOME", "/")})
