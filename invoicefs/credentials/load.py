"""Credentials: a token or a client certificate, read and checked."""

import base64
import hashlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from invoicefs.credentials.certificates import (
    RENEWAL_HINT,
    PasswordNeeded,
    check_ca_bundle,
    load_p12,
    load_p12_content,
    load_pem,
)
from invoicefs.credentials.profiles import (
    DEFAULT_PROFILE,
    Profile,
    login_command,
    read_profile_file,
)
from invoicefs.credentials.secret_files import is_exposed, read_file, read_secret
from invoicefs.credentials.sources import OUR_VARIABLES, Choice, CredentialSource, Given
from invoicefs.credentials.tokens import FixedToken, Token, TokenFile
from invoicefs.errors import Unauthenticated, UserError
from invoicefs.urls import origin

Ask = Callable[[str], str]
"""Prompts for a secret by its name; the input may be empty."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A token or a client certificate, and which servers are trusted."""

    description: str
    """What kind of credential it is and where it comes from, for people; never the secret."""

    token: Token | None = None

    certificate: ssl.SSLContext | None = None
    """The TLS context with the client certificate, which trusts no server yet."""

    certificate_digest: str = ""
    """The SHA-256 of the file or bundle with the client certificate."""

    ca_bundle: Path | None = None
    """Trust the certificates in this file instead of the public ones."""

    exposed_files: tuple[Path, ...] = ()
    """Secret files that others on this machine can read or change."""

    renewal_command: str = ""
    """The command that replaces the credential, if there is one."""

    def identity(self, token: str) -> str:
        """Return the identifier of the credential; `token` is empty for a client certificate."""
        return f"token {token}" if token else f"certificate {self.certificate_digest}"

    def current_identity(self) -> str:
        """Return the identifier of the current credential; a changed token file is read again."""
        return self.identity(self.token.token() if self.token else "")


def read_credentials(choice: Choice, ask: Ask | None) -> Credentials:
    """Read and check the credential of a choice; without one, prompt for a token.

    `ask` is None if there is no terminal. Raises `UserError` if there is no usable credential.
    """
    source = choice.source
    if source.token_file or source.token:
        credentials = _with_token(source)
    elif source.p12:
        credentials = _with_p12(source, source.p12, ask)
    elif source.p12_content:
        credentials = _with_p12_content(source, source.p12_content)
    elif source.cert:
        credentials = _with_pem(source.cert, source.key)
    elif ask:
        token = FixedToken(ask("API token"), "the input")
        credentials = Credentials("the token from the prompt", token)
    else:
        raise UserError(_nothing_for(choice))
    if source.profile:
        credentials = _from_profile(credentials, source.profile)
    if source.ca_bundle is None:
        return credentials
    check_ca_bundle(source.ca_bundle.path)
    return replace(credentials, ca_bundle=source.ca_bundle.path)


def refusal(url: str, credentials: Credentials, error: Unauthenticated) -> UserError:
    """Return the error for a server that does not accept the credentials."""
    command = credentials.renewal_command
    then = f", and run {command}" if command else ""
    return UserError(
        f"{url} does not accept {credentials.description}: {error}. The credential may be "
        f"wrong, expired or revoked: {RENEWAL_HINT}{then}."
    )


def _nothing_for(choice: Choice) -> str:
    others = ", ".join(choice.for_other_hosts)
    hint = f" (the credentials with {others} are for another host)" if others else ""
    return (
        f"There are no credentials for {choice.url}{hint}: give --token-file FILE or --p12 FILE, "
        f"set {OUR_VARIABLES['token']}, or run {login_command(DEFAULT_PROFILE)}."
    )


def _with_token(source: CredentialSource) -> Credentials:
    if source.token_file:
        file = source.token_file
        token: Token = (
            _profile_token(source.profile, file.path, f"the token file {file.path}")
            if source.profile
            else TokenFile.of_file(file.path)
        )
        description = f"the token from {token.origin} ({file.origin})"
        return Credentials(description, token, exposed_files=_exposed_files(file))
    assert source.token is not None
    if source.profile:
        place = f"the profile {source.profile.name} ({source.profile.file})"
        token = _profile_token(source.profile, source.profile.file, place)
    else:
        token = FixedToken(source.token.text, f"the environment variable {source.token.origin}")
    return Credentials(f"the token from {token.origin}", token)


def _from_profile(credentials: Credentials, profile: Profile) -> Credentials:
    exposed_files = (profile.file,) if is_exposed(profile.file) else ()
    return replace(
        credentials,
        exposed_files=credentials.exposed_files + exposed_files,
        renewal_command=login_command(profile.name),
    )


def _profile_token(profile: Profile, watched: Path, place: str) -> TokenFile:
    """Return the token of a profile, which ``invoicefs login`` may replace under a running mount.

    It is read again when `watched`, the file that has it now, changes, and when it is refused. A
    profile that has been changed to another host has no token for that mount.
    """
    host = _host(CredentialSource.of_profile(profile))

    def read() -> str:
        source = CredentialSource.of_profile(read_profile_file(profile.name, profile.file))
        if _host(source) != host:
            raise UserError(f"The URL in the profile {profile.file} has changed.")
        if source.token_file:
            path = source.token_file.path
            return read_secret(path, f"the token file {path}")
        return source.token.text if source.token else ""

    return TokenFile(watched, read, place)


def _host(source: CredentialSource) -> tuple[str, str | None, int] | None:
    return origin(source.normalised_url(may_be_unencrypted=True)) if source.url else None


def _with_p12(source: CredentialSource, bundle: Given, ask: Ask | None) -> Credentials:
    password, exposed_files = _p12_password(source), _exposed_files(source.p12_password_file)
    try:
        certificate = load_p12(bundle.path, password)
        if password is None:
            # An unencrypted bundle is as secret as the key itself.
            exposed_files = _exposed_files(bundle)
    except PasswordNeeded:
        if ask is None:
            raise
        certificate = load_p12(bundle.path, ask(f"Password of {bundle.path}"))
    content = read_file(bundle.path, f"the file {bundle.path}")
    description = f"the certificate in {bundle.path} ({bundle.origin})"
    return _with_certificate(description, content, certificate, exposed_files)


def _with_p12_content(source: CredentialSource, content: Given) -> Credentials:
    """Read a bundle in base64 from a variable, like the vendor's Terraform provider."""
    try:
        bundle = base64.b64decode("".join(content.text.split()), validate=True)
    except ValueError:
        raise UserError(f"The value of {content.origin} is not base64.") from None
    certificate = load_p12_content(bundle, content.origin, _p12_password(source))
    return _with_certificate(f"the certificate in {content.origin}", bundle, certificate)


def _with_pem(cert: Given, key: Given | None) -> Credentials:
    certificate = load_pem(cert.path, key.path if key else None)
    description = f"the certificate {cert.path} ({cert.origin})"
    content = read_file(cert.path, f"the file {cert.path}")
    return _with_certificate(description, content, certificate, _exposed_files(key or cert))


def _with_certificate(
    description: str,
    content: bytes,
    certificate: ssl.SSLContext,
    exposed_files: tuple[Path, ...] = (),
) -> Credentials:
    digest = hashlib.sha256(content).hexdigest()
    return Credentials(
        description, certificate=certificate, certificate_digest=digest, exposed_files=exposed_files
    )


def _p12_password(source: CredentialSource) -> str | None:
    """Return the password that was given for a bundle, or None."""
    if source.p12_password_file:
        path = source.p12_password_file.path
        # A file ends with a line feed; whitespace before it belongs to the password.
        return read_secret(path, f"the password file {path}").rstrip("\r\n")
    return source.p12_password.text if source.p12_password else None


def _exposed_files(file: Given | None) -> tuple[Path, ...]:
    return (file.path,) if file and is_exposed(file.path) else ()
