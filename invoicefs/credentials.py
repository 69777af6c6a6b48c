"""Where the API token comes from, and what happens when it is replaced.

The token comes from a file, an environment variable or a prompt, never from an argument:
arguments show in ``ps``. The first source that is given wins.

Threading: a `TokenFile` swaps one tuple by one assignment; two threads that see a new file at
once both read it, which is harmless.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from invoicefs.errors import UserError

TOKEN_VARIABLE = "INVOICEFS_TOKEN"  # noqa: S105 -- the name of the variable, not a token


class Credential(Protocol):
    """What the API is asked with."""

    @property
    def origin(self) -> str:
        """Where the token comes from, for people; never the token itself."""

    def token(self) -> str:
        """The token to use now."""

    def was_replaced(self, used: str) -> bool:
        """Whether another token than `used` is to be had, after the server refused that one."""


class FixedToken:
    """A token that stays the same as long as the mount lives."""

    def __init__(self, token: str, origin: str) -> None:
        self._token = _checked(token, origin)
        self.origin = origin

    def token(self) -> str:
        """See `Credential`."""
        return self._token

    def was_replaced(self, used: str) -> bool:
        """See `Credential`."""
        return used != self._token


class TokenFile:
    """A token in a file that is read again whenever the file changes.

    Raises `UserError` where the file has no usable token at the start. Later on the last token
    that could be read stays in use, because tools that rotate files may replace them in two steps.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self.origin = f"the token file {self._path}"
        self._state = (_fingerprint(self._path), _read(self._path))

    def token(self) -> str:
        """See `Credential`."""
        if _fingerprint(self._path) != self._state[0]:
            self._reload()
        return self._state[1]

    def was_replaced(self, used: str) -> bool:
        """See `Credential`."""
        self._reload()
        return used != self._state[1]

    def _reload(self) -> None:
        # The fingerprint is taken first: a change in between is seen again at the next call.
        fingerprint = _fingerprint(self._path)
        try:
            self._state = (fingerprint, _read(self._path))
        except UserError:
            self._state = (fingerprint, self._state[1])


def find_credential(token_file: Path | None, prompt: Callable[[], str] | None) -> Credential:
    """The credential from the first source that has one: file, environment, prompt.

    `prompt` is None where nobody could answer. The variable leaves the environment, so that no
    program started from here inherits it. Raises `UserError` where there is no usable token.
    """
    from_environment = os.environ.pop(TOKEN_VARIABLE, "")
    if token_file is not None:
        return TokenFile(token_file)
    if from_environment:
        return FixedToken(from_environment, f"the environment variable {TOKEN_VARIABLE}")
    if prompt is not None:
        return FixedToken(prompt(), "the prompt")
    raise UserError(f"There is no API token: give --token-file FILE or set {TOKEN_VARIABLE}.")


def _fingerprint(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _read(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise UserError(f"The token file {path} is not a regular file.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"The token file {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        # Not from the error, which holds what is in the file.
        raise UserError(f"The token file {path} is not a text file.") from None
    return _checked(text, f"the token file {path}")


def _checked(text: str, origin: str) -> str:
    """The token without surrounding blanks; only what an HTTP header can carry is a token."""
    token = text.strip()
    if not token:
        raise UserError(f"There is no API token in {origin}.")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise UserError(f"What is in {origin} is not an API token: it must be one word of ASCII.")
    return token
