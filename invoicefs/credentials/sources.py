"""Where the URL of a tenant and its credential come from, and which credential source wins.

Users may have configured them already: for this program, for other clients of the vendor's API, for
Terraform or for ``vesctl``. Each of these credential sources may have only some of them.

A profile that is asked for comes directly after the options; otherwise the default profile is the
last source. The first URL wins, and the first credential that fits it.
A credential that was given together with a URL only fits that host. A credential without a URL fits
the URL that was found if either of them is ours: from the options, from a profile or from
``INVOICEFS_*``. So two other sources are never mixed, and a URL on the command line never gets a
credential that was set up for another host.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final, NamedTuple, Self

from invoicefs.credentials.profiles import (
    DEFAULT_PROFILE,
    Profile,
    find_profile,
    login_command,
    read_profile,
)
from invoicefs.credentials.secret_files import take_variable
from invoicefs.credentials.vesconfig import read_vesconfig
from invoicefs.errors import UsageError, UserError
from invoicefs.folders import home_folder
from invoicefs.urls import URL_EXAMPLE, normalise_url
from invoicefs.urls import origin as url_origin

Names = str | Sequence[str]
"""The name of a field in a source; of several names, the first that is not empty counts."""


class Given(NamedTuple):
    """A value, and where it was given, for people: ``--p12``, ``F5XC_P12_BUNDLE``."""

    text: str
    origin: str

    def __repr__(self) -> str:
        return f"<the value of {self.origin}>"  # the text may be a secret

    @property
    def path(self) -> Path:
        """The text as the absolute path of a file."""
        return Path(self.text).absolute()


@dataclass(frozen=True, slots=True)
class CredentialSource:
    """The URL and the credential that one source has; every field may be missing."""

    url: Given | None = None
    token_file: Given | None = None
    token: Given | None = None
    p12: Given | None = None
    p12_content: Given | None = None
    p12_password_file: Given | None = None
    p12_password: Given | None = None
    cert: Given | None = None
    key: Given | None = None
    ca_bundle: Given | None = None
    is_ours: bool = False
    profile: Profile | None = None

    @classmethod
    def of(
        cls,
        texts: Mapping[str, str],
        names: Mapping[str, Names],
        *,
        is_ours: bool = False,
        place: str = "",
        profile: Profile | None = None,
    ) -> Self:
        """Return the source with the texts under these names; an empty text counts as missing."""
        found: dict[str, Given] = {}
        for field, given in names.items():
            for name in _all_of(given):
                if texts.get(name):
                    found.setdefault(field, Given(texts[name], name + place))
        return cls(**found, is_ours=is_ours, profile=profile)

    @classmethod
    def of_profile(cls, profile: Profile) -> Self:
        """Return the source with the variables of a profile; see `Profile.path` for its files."""
        texts = dict(profile.variables)
        for variable in _FILE_VARIABLES & texts.keys():
            texts[variable] = str(profile.path(variable))
        place = f" in the profile {profile.name}"
        return cls.of(texts, OUR_VARIABLES, is_ours=True, place=place, profile=profile)

    @property
    def has_credential(self) -> bool:
        """Whether the source has a credential, with or without a URL."""
        return any((self.token_file, self.token, self.p12, self.p12_content, self.cert))

    def fits(self, url: str, origin: Self, *, may_be_unencrypted: bool) -> bool:
        """Return whether its credential may be used for a URL from the source `origin`."""
        if self is origin:
            return True
        if self.url is None:
            # The URL of a profile is only for the credential beside it, and for ours.
            is_for_others = not (origin.profile and origin.has_credential)
            return self.is_ours or (origin.is_ours and is_for_others)
        try:
            own = self.normalised_url(may_be_unencrypted=may_be_unencrypted)
        except UsageError:
            return False
        return url_origin(own) == url_origin(url)

    def normalised_url(self, *, may_be_unencrypted: bool) -> str:
        """Return the base URL of the API; raises `UsageError`, which says where it was given."""
        assert self.url is not None
        if self.profile is not None:
            may_be_unencrypted = may_be_unencrypted or self.profile.allows_insecure_http
        try:
            return normalise_url(self.url.text, may_be_unencrypted=may_be_unencrypted)
        except UsageError as error:
            raise UsageError(f"{self.url.origin}: {error}") from None


@dataclass(frozen=True, slots=True)
class Choice:
    """A normalised URL, and the source of a credential for it, which may have none."""

    url: str
    url_origin: str
    source: CredentialSource
    for_other_hosts: tuple[str, ...]
    """The origins of credentials for other hosts, for people."""

    profile: Profile | None = None
    """The profile that was asked for, or that the URL or the credential is from."""


def _all_of(names: Names) -> Sequence[str]:
    return [names] if isinstance(names, str) else names


OUR_VARIABLES: Final = {
    field.name: f"INVOICEFS_{field.name.upper()}"
    for field in fields(CredentialSource)
    if field.name not in ("is_ours", "p12_content", "profile")
}
_FILE_VARIABLES: Final = {
    OUR_VARIABLES[field]
    for field in ("token_file", "p12", "p12_password_file", "cert", "key", "ca_bundle")
}
_F5XC: Mapping[str, Names] = {
    "url": ("F5XC_API_URL", "F5XC_TENANT_URL"),
    "token_file": "F5XC_API_TOKEN_FILE",
    "token": ("F5XC_API_TOKEN", "F5XC_ACCESS_TOKEN"),
    "p12": ("F5XC_P12_BUNDLE", "F5XC_P12_FILE"),
    "p12_password": "F5XC_P12_PASSWORD",
    "cert": "F5XC_CERT",
    "key": "F5XC_KEY",
    "ca_bundle": "F5XC_CA_BUNDLE",
}
_TERRAFORM: Mapping[str, Names] = {
    "url": "VOLT_API_URL",
    "p12": "VOLT_API_P12_FILE",
    "p12_content": "VES_P12_CONTENT",
    "p12_password": "VES_P12_PASSWORD",
    "cert": "VOLT_API_CERT",
    "key": "VOLT_API_KEY",
    "ca_bundle": "VOLT_API_CA_CERT",
}
_VESCTL = {"url": "server-urls", "p12": "p12-bundle", "cert": "cert", "key": "key"}
_SECRET_FIELDS = frozenset({"token", "p12_content", "p12_password"})
_SECRET_VARIABLES = [
    variable
    for names in (OUR_VARIABLES, _F5XC, _TERRAFORM)
    for field in _SECRET_FIELDS & names.keys()
    for variable in _all_of(names[field])
]


def take_secrets() -> dict[str, str]:
    """Remove the variables with secrets from the environment, and return them.

    So no child process inherits them, and ``/proc/PID/environ`` does not show them.
    """
    return {name: take_variable(name) for name in _SECRET_VARIABLES if name in os.environ}


def choose(
    options: CredentialSource,
    secrets: Mapping[str, str],
    *,
    profile_name: str | None = None,
    may_be_unencrypted: bool,
) -> Choice:
    """Return the URL of the tenant to mount, and the source of a credential for it.

    They come from the options, the profile with this name, the environment (with the `secrets`
    taken from it), ``~/.vesconfig`` or, without a name, the default profile. Raises `UsageError` if
    there is no valid URL, and `UserError` if a file is needed and cannot be used.
    """
    check_options(options)
    profile = read_profile(profile_name) if profile_name else None
    named = CredentialSource.of_profile(profile) if profile else CredentialSource()
    variables = {**os.environ, **secrets}
    own_url = options.url or variables.get(OUR_VARIABLES["url"])
    _check_has_url(named, own_url)
    own = (
        options,
        *([named] if profile else []),
        CredentialSource.of(variables, OUR_VARIABLES, is_ours=True),
    )
    sources = [
        *own,
        CredentialSource.of(variables, _F5XC),
        CredentialSource.of(variables, _TERRAFORM),
    ]
    choice = _first_choice(sources, may_be_unencrypted=may_be_unencrypted)
    last_sources = (_vesctl_source, *(() if profile else (_default_profile_source,)))
    for read_source in last_sources:
        if choice is None or not choice.source.has_credential:
            sources.append(read_source(variables))
            _check_has_url(sources[-1], own_url)
            choice = _first_choice(sources, may_be_unencrypted=may_be_unencrypted)
    if choice is None:
        login = login_command(profile_name or DEFAULT_PROFILE)
        raise UsageError(f"There is no URL: give --url, like {URL_EXAMPLE}, or run {login}.")
    return replace(choice, source=_completed(choice.source, own), profile=profile or choice.profile)


def _check_has_url(source: CredentialSource, own_url: Given | str | None) -> None:
    """Raise `UserError` for a profile whose credential could get the URL of another client."""
    if source.profile and source.has_credential and not (source.url or own_url):
        name = source.profile.name
        raise UserError(
            f"The profile {name} has a credential, but no {OUR_VARIABLES['url']}: "
            f"run {login_command(name)}."
        )


def _first_choice(
    sources: Sequence[CredentialSource], *, may_be_unencrypted: bool
) -> Choice | None:
    """Return the first choice that has a credential, or the first one, or None."""
    choices = _choices(sources, may_be_unencrypted=may_be_unencrypted)
    first = next(choices, None)
    if first is None or first.source.has_credential:
        return first
    return next((choice for choice in choices if choice.source.has_credential), first)


def _choices(sources: Sequence[CredentialSource], *, may_be_unencrypted: bool) -> Iterator[Choice]:
    """Yield each URL with the first credential that fits it, up to the first URL of ours."""
    for origin in sources:
        if origin.url is None:
            continue
        url = origin.normalised_url(may_be_unencrypted=may_be_unencrypted)
        having = [source for source in sources if source.has_credential]
        fitting = [
            source
            for source in having
            if source.fits(url, origin, may_be_unencrypted=may_be_unencrypted)
        ]
        for_other_hosts = tuple(
            source.url.origin for source in having if source.url and source not in fitting
        )
        credential = fitting[0] if fitting else CredentialSource()
        trusted = credential.ca_bundle or origin.ca_bundle
        yield Choice(
            url,
            origin.url.origin,
            replace(credential, ca_bundle=trusted),
            for_other_hosts,
            origin.profile or credential.profile,
        )
        if origin.is_ours:
            return


def _completed(source: CredentialSource, own: Sequence[CredentialSource]) -> CredentialSource:
    """Return the source, completed with values from our own sources.

    A CA bundle applies to any credential, a password only to P12 bundles from our own sources.
    """
    for place in reversed(own):
        source = replace(source, ca_bundle=place.ca_bundle or source.ca_bundle)
        if source.is_ours and (place.p12_password_file or place.p12_password):
            source = replace(
                source,
                p12_password_file=place.p12_password_file,
                p12_password=place.p12_password,
            )
    return source


def check_options(options: CredentialSource) -> None:
    """Raise `UsageError` if the options have several credentials, or only a part of one."""
    kinds = [kind.origin for kind in (options.token_file, options.p12, options.cert) if kind]
    if len(kinds) > 1:
        raise UsageError(f"{' and '.join(kinds)} are mutually exclusive: give one of them.")
    if options.key and not options.cert:
        raise UsageError(f"{options.key.origin} needs --cert.")


def _default_profile_source(_: Mapping[str, str]) -> CredentialSource:
    profile = find_profile(DEFAULT_PROFILE)
    return CredentialSource.of_profile(profile) if profile else CredentialSource()


def _vesctl_source(variables: Mapping[str, str]) -> CredentialSource:
    """Return the configuration of ``vesctl``; its paths are relative to its folder, or to ``~``."""
    home = home_folder()
    if home is None:
        return CredentialSource()
    file = home / ".vesconfig"
    texts = read_vesconfig(file)
    for key in texts.keys() & {_VESCTL["p12"], _VESCTL["cert"], _VESCTL["key"]}:
        texts[key] = str(file.parent / os.path.expanduser(texts[key]))
    password = CredentialSource.of(variables, {"p12_password": _TERRAFORM["p12_password"]})
    source = CredentialSource.of(texts, _VESCTL, place=f" in {file}")
    return replace(source, p12_password=password.p12_password)
