"""Where the URL of a tenant and the credentials for it come from, and which of them won.

People have them already: for this program, for other clients of the vendor's API, for Terraform,
and for ``vesctl``. Each of these places is a `Family`, and the first one that has something wins.

A credential is sent to the host that it was made for, and to no other: URL and credential come
from one family. Only the family of our own may lend its URL to the credential of another that
names no host, or the same one, and its credential to the URL of another.

Secrets leave the environment, so that no program that is started from here inherits them and
``/proc/PID/environ`` does not show them.
"""

import os
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final, NamedTuple, Self
from urllib.parse import urlsplit

from invoicefs.certificates import check_ca_bundle, load_p12, load_pem
from invoicefs.config import URL_EXAMPLE, home_folder, normalise_url
from invoicefs.errors import UsageError, UserError
from invoicefs.secret_sources import is_open_to_others, read_secret, take_variable
from invoicefs.tokens import FixedToken, Token, TokenFile
from invoicefs.vesconfig import read_vesconfig

Ask = Callable[[str], str]
"""Asks whoever sits at the terminal for a secret, by its name."""


class Given(NamedTuple):
    """A text that was given, and where, for people: ``--p12``, ``F5XC_P12_BUNDLE``."""

    text: str
    origin: str

    def __repr__(self) -> str:
        return f"<what {self.origin} says>"  # which may be a secret

    @property
    def path(self) -> Path:
        """The text as the absolute path of a file."""
        return Path(self.text).absolute()


@dataclass(frozen=True, slots=True)
class Family:
    """What one place says of a tenant; everything may be missing."""

    url: Given | None = None
    token_file: Given | None = None
    token: Given | None = None
    p12: Given | None = None
    p12_password_file: Given | None = None
    p12_password: Given | None = None
    cert: Given | None = None
    key: Given | None = None
    ca_bundle: Given | None = None

    @classmethod
    def of(cls, texts: Mapping[str, str], names: Mapping[str, str]) -> Self:
        """What `texts` has under these names, by field; an empty text counts as not given."""
        found = {field: Given(texts.get(name, ""), name) for field, name in names.items()}
        return cls(**{field: given for field, given in found.items() if given.text})

    @property
    def has_credential(self) -> bool:
        """Whether there is something to be let in with."""
        return any((self.token_file, self.token, self.p12, self.cert))

    def before(self, other: Self) -> Self:
        """What either of two places says, this one first; credentials come from one of them."""
        if self.has_credential:
            other = replace(other, token_file=None, token=None, p12=None, cert=None, key=None)
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(other, **{name: each for name, each in given.items() if each})

    def joined(self, other: Self) -> Self:
        """The credential of one of two places as a whole, this one first; the rest of either."""
        credential = self if self.has_credential else other
        url, ca_bundle = self.url or other.url, self.ca_bundle or other.ca_bundle
        return replace(credential, url=url, ca_bundle=ca_bundle)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a tenant is asked with: a token or a client certificate, and whom we trust."""

    description: str
    """What it is and where it comes from, for people; never a secret."""

    token: Token | None = None

    certificate: ssl.SSLContext | None = None
    """What TLS connections are made with; holds the client certificate and trusts nobody yet."""

    ca_bundle: Path | None = None
    """Trust the certificates in this file instead of the public ones."""

    open_files: tuple[Path, ...] = ()
    """Files of secrets that everybody on this machine can read."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """The URL of a tenant, normalised, where it was given, and who has credentials for it."""

    url: str
    url_origin: str
    family: Family
    unfit: tuple[str, ...]
    """Where there are credentials that are not for this host, for people."""

    def credentials(self, ask: Ask | None) -> Credentials:
        """What the tenant is asked with, read and checked; a token from a prompt in the end.

        `ask` is None where nobody could answer. Raises `UserError` where nothing can be used.
        """
        if self.family.has_credential or ask:
            return _credentials(self.family, ask)
        hint = f" (not for this host: those of {', '.join(self.unfit)})" if self.unfit else ""
        raise UserError(
            f"There are no credentials for {self.url}{hint}: give --token-file FILE or --p12 FILE, "
            f"or set {OUR_VARIABLES['token']}."
        )


OUR_VARIABLES: Final = {field.name: f"INVOICEFS_{field.name.upper()}" for field in fields(Family)}
_F5XC = {
    "url": "F5XC_API_URL",
    "token": "F5XC_API_TOKEN",
    "p12": "F5XC_P12_BUNDLE",
    "p12_password": "F5XC_P12_PASSWORD",
    "cert": "F5XC_CERT",
    "key": "F5XC_KEY",
    "ca_bundle": "F5XC_CA_BUNDLE",
}
_TERRAFORM = {
    "url": "VOLT_API_URL",
    "p12": "VOLT_API_P12_FILE",
    "p12_password": "VES_P12_PASSWORD",
    "cert": "VOLT_API_CERT",
    "key": "VOLT_API_KEY",
    "ca_bundle": "VOLT_API_CA_CERT",
}
_VESCTL = {"url": "server-urls", "p12": "p12-bundle", "cert": "cert", "key": "key"}
_SECRET_FIELDS = ("token", "p12_password")


def find_tenant(options: Family, *, may_be_unencrypted: bool) -> Tenant:
    """The tenant to mount: from the options, the environment or ``~/.vesconfig``.

    Raises `UsageError` where there is no usable URL, and `UserError` where ``~/.vesconfig`` is
    needed and cannot be used.
    """
    variables = {**os.environ, **_take_secrets()}
    _check_options(options)
    own = options.before(Family.of(variables, OUR_VARIABLES))
    others = [Family.of(variables, names) for names in (_F5XC, _TERRAFORM)]

    def url_of(family: Family) -> str:
        assert family.url is not None
        try:
            return normalise_url(family.url.text, may_be_unencrypted=may_be_unencrypted)
        except UsageError as error:
            raise UsageError(f"{family.url.origin}: {error}") from None

    found = _joined(own, others, url_of)
    if not (found.url and found.has_credential):
        others.append(_family_of_vesctl(variables))
        found = _joined(own, others, url_of)
    if not found.url:
        found = own.joined(next((each for each in others if each.url), Family()))
    if not found.url:
        raise UsageError(f"There is no URL: give --url, like {URL_EXAMPLE}.")
    unfit = tuple(each.url.origin for each in others if each.has_credential and each.url)
    return Tenant(url_of(found), found.url.origin, found, unfit)


def _joined(own: Family, others: Iterable[Family], url_of: Callable[[Family], str]) -> Family:
    """Our own family, with what it lacks of the first other one that fits it."""
    if own.url and own.has_credential:
        return own
    for other in others:
        if own.url:
            fits = other.has_credential and (
                other.url is None or _origin(url_of(other)) == _origin(url_of(own))
            )
        else:
            fits = other.url is not None and (own.has_credential or other.has_credential)
        if fits:
            return own.joined(other)
    return own


def _origin(url: str) -> tuple[str, str | None, int]:
    """Scheme, host and port: what is meant for TLS does not go without, see RFC 6454."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]


def _check_options(options: Family) -> None:
    kinds = [each.origin for each in (options.token_file, options.p12, options.cert) if each]
    if len(kinds) > 1:
        raise UsageError(f"{' and '.join(kinds)} exclude each other: give one of them.")
    if options.key and not options.cert:
        raise UsageError(f"{options.key.origin} needs --cert.")


def _credentials(family: Family, ask: Ask | None) -> Credentials:
    """The credential of a family, read and checked; a token from a prompt where it has none."""
    if family.token_file or family.token or not (family.p12 or family.cert):
        credentials = _with_token(family, ask)
    elif family.p12:
        credentials = _with_p12(family, family.p12, ask)
    else:
        assert family.cert is not None
        credentials = _with_pem(family.cert, family.key)
    if family.ca_bundle is None:
        return credentials
    check_ca_bundle(family.ca_bundle.path)
    return replace(credentials, ca_bundle=family.ca_bundle.path)


def _with_token(family: Family, ask: Ask | None) -> Credentials:
    if family.token_file:
        token: Token = TokenFile(family.token_file.path)
    elif family.token:
        origin = f"the environment variable {family.token.origin}"
        token = FixedToken(family.token.text, origin)
    else:
        assert ask is not None
        token = FixedToken(ask("API token"), "the prompt")
    open_files = _open_files(family.token_file)
    return Credentials(f"the token from {token.origin}", token, open_files=open_files)


def _with_p12(family: Family, bundle: Given, ask: Ask | None) -> Credentials:
    return Credentials(
        f"the certificate in {bundle.path} ({bundle.origin})",
        certificate=load_p12(bundle.path, _p12_password(family, bundle, ask)),
        open_files=_open_files(family.p12_password_file),
    )


def _with_pem(cert: Given, key: Given | None) -> Credentials:
    return Credentials(
        f"the certificate {cert.path} ({cert.origin})",
        certificate=load_pem(cert.path, key.path if key else None),
        open_files=_open_files(key or cert),
    )


def _p12_password(family: Family, bundle: Given, ask: Ask | None) -> str | None:
    """The password of the bundle, or None where it has to do without."""
    if family.p12_password_file:
        path = family.p12_password_file.path
        # A file ends in a line feed; blanks before it belong to the password.
        return read_secret(path, f"the password file {path}").rstrip("\r\n")
    if family.p12_password:
        return family.p12_password.text
    return ask(f"Password of {bundle.path}") if ask else None


def _open_files(file: Given | None) -> tuple[Path, ...]:
    return (file.path,) if file and is_open_to_others(file.path) else ()


def _family_of_vesctl(variables: Mapping[str, str]) -> Family:
    """What ``vesctl`` has been told; paths may begin with ``~`` and are seen from its folder."""
    home = home_folder()
    if home is None:
        return Family()
    file = home / ".vesconfig"
    texts = read_vesconfig(file)
    paths = {
        key: str(file.parent / os.path.expanduser(texts[key]))
        for key in texts.keys() & {_VESCTL["p12"], _VESCTL["cert"], _VESCTL["key"]}
    }
    family = Family.of({**texts, **paths}, _VESCTL)
    password = Family.of(variables, {"p12_password": _TERRAFORM["p12_password"]})
    named = {
        field.name: given._replace(origin=f"{given.origin} in {file}")
        for field in fields(family)
        if (given := getattr(family, field.name))
    }
    return password.before(replace(family, **named))


def _take_secrets() -> dict[str, str]:
    """The secrets among the variables, which the environment does not have any more."""
    names = [
        family[field]
        for family in (OUR_VARIABLES, _F5XC, _TERRAFORM)
        for field in _SECRET_FIELDS
        if field in family
    ]
    return {name: take_variable(name) for name in names if name in os.environ}
