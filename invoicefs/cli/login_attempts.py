"""Asks for the URL and the credential of a tenant, and tries them with one request."""

import os
import stat
import sys
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import Final, NoReturn, Self

import click

from invoicefs.api.client import Api
from invoicefs.cli.output import print_message, prompt_for_secret
from invoicefs.clock import Deadline, SystemClock
from invoicefs.credentials.load import Ask, Credentials, read_credentials, refusal
from invoicefs.credentials.profiles import Profile
from invoicefs.credentials.secret_files import SECRET_BYTES
from invoicefs.credentials.sources import Choice, CredentialSource, Given
from invoicefs.errors import (
    Denied,
    InvoicefsError,
    Misdirected,
    NotFound,
    Unauthenticated,
    Unreachable,
    UntrustedServer,
    UnusableResponse,
    UsageError,
    UserError,
)
from invoicefs.settings import Settings
from invoicefs.urls import normalise_url, origin

_ATTEMPTS: Final = 3
_WRONG_URL: Final = (Misdirected, NotFound, Unreachable, UntrustedServer, UnusableResponse)


@dataclass(frozen=True, slots=True)
class Login:
    """A URL and a credential that the API has accepted."""

    url: str
    source: CredentialSource
    """The files of the credential, and the CA bundle."""

    credentials: Credentials
    secret: str = field(repr=False)
    """The token or the password of the P12 bundle, if it is not in a file."""

    namespace_count: int | None
    """How many namespaces the API lists; None if the credential may not list them."""


class _TryLater(UserError):
    """The API fails, so nothing is known about the URL and the credential."""


def log_in(given: CredentialSource, old: Profile | None, *, is_insecure: bool) -> Login:
    """Return the URL and the credential from options and prompts, after trying them.

    The URL of `old`, the profile to be replaced, is suggested. What was typed may be typed again,
    three times in all. Raises `UserError` if there is nothing that the API accepts, `UsageError` if
    an option is invalid, and `click.Abort` if the user gives up.
    """
    connection = _Connection.of(old, is_insecure=is_insecure)
    questions = _Questions(connection.url)
    for attempts_left in reversed(range(_ATTEMPTS)):
        try:
            if given.url:
                url = connection.normalised(given.url.text, f"{given.url.origin}: ")
            else:
                url = connection.normalised(questions.ask_url())
                questions.suggested_url = url
            source = replace(given, ca_bundle=given.ca_bundle or connection.ca_bundle_for(url))
            return _try(url, source, questions)
        except _TryLater:
            raise
        except UserError as error:
            if not questions.were_asked:
                raise
            if not attempts_left:
                raise UserError(str(error)) from error  # not bad usage of an option
            print_message("invoicefs", str(error))
    raise AssertionError("the last attempt returns or raises")


class _Questions:
    """Asks on the terminal; without one, the URL is the suggested one, and the token piped in."""

    def __init__(self, suggested_url: str | None) -> None:
        self._has_terminal = sys.stdin.isatty()
        self.suggested_url = suggested_url
        self.were_asked = False

    def ask_url(self) -> str:
        """Return the URL as it was typed, or the suggested one."""
        if not self._has_terminal:
            return self.suggested_url or _no_terminal()
        self.were_asked = True
        url: str = click.prompt("URL of the tenant", default=self.suggested_url, err=True)
        return url

    def ask_for(self, source: CredentialSource) -> Ask | None:
        """Return the function that asks for the secret of a source; None if nobody can be asked."""
        if self._has_terminal:
            return self._prompt
        return None if source.has_credential else lambda _: _read_token()

    def _prompt(self, what: str) -> str:
        self.were_asked = True
        return prompt_for_secret(what)


@dataclass(frozen=True, slots=True)
class _Connection:
    """How a profile connects to its host, which is kept for that host."""

    url: str | None
    ca_bundle: Given | None
    may_be_unencrypted: bool
    is_insecure: bool
    """Whether an option allows any unencrypted URL."""

    @classmethod
    def of(cls, profile: Profile | None, *, is_insecure: bool) -> Self:
        source = CredentialSource.of_profile(profile) if profile else CredentialSource()
        url = None
        if source.url:
            with suppress(UsageError):  # an invalid URL is no suggestion
                url = source.normalised_url(may_be_unencrypted=True)
        return cls(
            url, source.ca_bundle, bool(profile and profile.allows_insecure_http), is_insecure
        )

    def normalised(self, text: str, prefix: str = "") -> str:
        """Return the base URL of the API in a text; raises `UsageError`, with `prefix`."""
        try:
            url = normalise_url(text, may_be_unencrypted=True)
            is_allowed = self.may_be_unencrypted and self._is_to_same_host(url)
            return normalise_url(text, may_be_unencrypted=self.is_insecure or is_allowed)
        except UsageError as error:
            raise UsageError(f"{prefix}{error}") from None

    def ca_bundle_for(self, url: str) -> Given | None:
        return self.ca_bundle if self._is_to_same_host(url) else None

    def _is_to_same_host(self, url: str) -> bool:
        return self.url is not None and origin(self.url) == origin(url)


def _try(url: str, source: CredentialSource, questions: _Questions) -> Login:
    """Read the credential, asking for what is missing, and make a request with it."""
    secrets: list[str] = []
    ask = questions.ask_for(source)

    def remember(what: str) -> str:
        assert ask is not None
        secrets.append(ask(what))
        return secrets[-1]

    credentials = read_credentials(Choice(url, "", source, ()), remember if ask else None)
    count = _count_namespaces(url, credentials)
    secret = secrets[0] if secrets else ""
    if credentials.token:
        secret = secret.strip()
    return Login(url, source, credentials, secret, count)


def _count_namespaces(url: str, credentials: Credentials) -> int | None:
    """List the namespaces; returns None if the credential is valid but not allowed to."""
    limits = Settings(url)
    api = Api(url, credentials, parallel=1, max_pdf_size_bytes=limits.max_pdf_size_bytes)
    with closing(api):
        try:
            deadline = Deadline.after(limits.timeout_s, SystemClock())
            return len(api.namespaces(deadline, bypass_caches=True).names)
        except Unauthenticated as error:
            raise refusal(url, credentials, error) from error
        except Denied as error:
            if not error.has_reason:
                raise _failure(url, error) from error
            return None
        except _WRONG_URL as error:
            raise UserError(
                f"{url} cannot be used: {error}. Check the URL and the network."
            ) from error
        except InvoicefsError as error:
            raise _failure(url, error) from error


def _failure(url: str, error: InvoicefsError) -> _TryLater:
    return _TryLater(f"{url} cannot be used now: {error}. Nothing was saved: try again later.")


def _read_token() -> str:
    """Read a token from standard input, which must be a pipe or a file."""
    mode = os.fstat(sys.stdin.fileno()).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)):
        _no_terminal()
    content = sys.stdin.buffer.read(SECRET_BYTES + 1)
    if len(content) > SECRET_BYTES:
        raise UserError("The input is too long to be an API token.")
    return content.decode("ascii", "replace")  # a replaced character is not valid in a token


def _no_terminal() -> NoReturn:
    raise UserError(
        "There is no terminal to ask on: give --url URL, and the token on standard input, "
        "--token-file FILE, --p12 FILE with --p12-password-file FILE, or --cert FILE."
    )
