"""API tokens, which may be replaced while a mount runs.

Threading: a `TokenFile` swaps a tuple by one assignment; two threads that see a new file at the
same time both read it, which is harmless.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self

from invoicefs.credentials.secret_files import read_secret
from invoicefs.errors import UserError


class Token(Protocol):
    """An API token, which is sent in a header."""

    @property
    def origin(self) -> str:
        """Where the token comes from, for people; never the token itself."""

    def token(self) -> str:
        """Return the current token."""

    def was_replaced(self, used: str) -> bool:
        """Return whether the token now differs from `used`, which the server has refused."""


class FixedToken:
    """A token that stays the same for the life of the mount."""

    def __init__(self, token: str, origin: str) -> None:
        self._token = _checked(token, origin)
        self.origin = origin

    def token(self) -> str:
        """See `Token`."""
        return self._token

    def was_replaced(self, used: str) -> bool:
        """See `Token`."""
        return used != self._token


class TokenFile:
    """A token that is read again whenever its file changes.

    `read` reads the token; `origin` says where it comes from. It and the constructor raise
    `UserError` if there is no valid token. Later the last valid token stays in use, because tools
    that rotate files may replace them in two steps.
    """

    def __init__(self, path: Path, read: Callable[[], str], origin: str) -> None:
        self._path = path
        self._read = read
        self.origin = origin
        self._state = (_fingerprint(path), self._read_token())

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """Return the token that is the whole content of a file."""
        path = path.absolute()
        origin = f"the token file {path}"
        return cls(path, lambda: read_secret(path, origin), origin)

    def token(self) -> str:
        """See `Token`."""
        if _fingerprint(self._path) != self._state[0]:
            self._reload()
        return self._state[1]

    def was_replaced(self, used: str) -> bool:
        """See `Token`."""
        self._reload()
        return used != self._state[1]

    def _reload(self) -> None:
        # The fingerprint comes first: a change in between is detected at the next call.
        fingerprint = _fingerprint(self._path)
        try:
            self._state = (fingerprint, self._read_token())
        except UserError:
            self._state = (fingerprint, self._state[1])

    def _read_token(self) -> str:
        return _checked(self._read(), self.origin)


def _fingerprint(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _checked(text: str, origin: str) -> str:
    """Return the token without surrounding whitespace; it must be valid in an HTTP header."""
    token = text.strip()
    if not token:
        raise UserError(f"There is no API token in {origin}.")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise UserError(f"The content of {origin} is not an API token, which is one word of ASCII.")
    return token
