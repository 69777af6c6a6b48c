"""Which URL and credential are used for a tenant, and that no secret goes anywhere else."""

import base64
import json
import os
import secrets
import ssl
import subprocess
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from invoicefs.credentials import sources
from invoicefs.credentials.load import Ask, Credentials, read_credentials
from invoicefs.credentials.sources import Choice, CredentialSource, choose, take_secrets
from invoicefs.errors import UsageError, UserError
from tests.support.certificates import make_certificate

PLANTED = secrets.token_hex()
A, B = "https://a.example", "https://b.example"
OPTIONS = {
    field: f"--{field.replace('_', '-')}"
    for field in ("url", "token_file", "p12", "p12_password_file", "cert", "key", "ca_bundle")
}
SECRETS = {
    "INVOICEFS_TOKEN": PLANTED,
    "INVOICEFS_P12_PASSWORD": PLANTED,
    "F5XC_API_TOKEN": PLANTED,
    "F5XC_P12_PASSWORD": PLANTED,
    "VES_P12_PASSWORD": PLANTED,
}
CREDENTIALS = {  # of every credential source, by its URL, in order of precedence
    "--url": ("--token-file", "--p12", "--cert"),
    "named:INVOICEFS_URL": (  # in the profile that is asked for
        "named:INVOICEFS_TOKEN",
        "named:INVOICEFS_P12",
        "named:INVOICEFS_CERT",
    ),
    "INVOICEFS_URL": ("INVOICEFS_TOKEN", "INVOICEFS_P12", "INVOICEFS_CERT"),
    "F5XC_API_URL": ("F5XC_API_TOKEN", "F5XC_P12_BUNDLE", "F5XC_CERT"),
    "VOLT_API_URL": ("VOLT_API_P12_FILE", "VOLT_API_CERT"),
    "server-urls": ("p12-bundle", "cert"),
    "default:INVOICEFS_URL": (
        "default:INVOICEFS_TOKEN",
        "default:INVOICEFS_P12",
        "default:INVOICEFS_CERT",
    ),
}
URLS = list(CREDENTIALS)
FIRST_KINDS = {url: kinds[0] for url, kinds in CREDENTIALS.items()}
OURS = ("--", "named:", "default:", "INVOICEFS_")
PROFILES = ("named", "default")

Texts = Mapping[str, str]


@dataclass(frozen=True)
class Found:
    """A URL, and the credentials that are read for it."""

    choice: Choice

    @property
    def url(self) -> str:
        return self.choice.url

    @property
    def url_origin(self) -> str:
        return self.choice.url_origin

    def credentials(self, ask: Ask | None) -> Credentials:
        return read_credentials(self.choice, ask)


Find = Callable[..., Found]
unread = pytest.mark.usefixtures("certificates_stay_unread")


@pytest.fixture(autouse=True)
def find(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Find:
    """Find the tenant with only these options, variables, profiles and keys of ``~/.vesconfig``."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    profiles = tmp_path / ".config" / "invoicefs"
    profiles.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("/--url\n")
    (tmp_path / "blanks").write_text(" a b \n")

    def find(texts: Texts, *, may_be_unencrypted: bool = False) -> Found:
        clear()
        for name in filter(str.isupper, texts):
            monkeypatch.setenv(name, texts[name])
        for profile in PROFILES:
            write_variables(profiles / f"{profile}.env", f"{profile}:", texts)
        file = tmp_path / ".vesconfig"
        if in_file := {
            name: text for name, text in texts.items() if name[0].islower() and ":" not in name
        }:
            file.write_text(json.dumps(in_file))
        elif file.is_file():
            file.unlink()
        options = CredentialSource.of(texts, OPTIONS, is_ours=True)
        choice = choose(
            options,
            take_secrets(),
            profile_name="named" if (profiles / "named.env").exists() else None,
            may_be_unencrypted=may_be_unencrypted,
        )
        return Found(choice)

    def clear() -> None:
        for name in list(os.environ):
            if name.startswith(("INVOICEFS_", "F5XC_", "VOLT_", "VES_")):
                monkeypatch.delenv(name)

    clear()
    return find


@pytest.fixture
def certificates_stay_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace certificates by the texts they would be made of: only the choice matters."""

    def made_of(*parts: object) -> str:
        return " ".join(str(part) for part in parts if part is not None)

    monkeypatch.setattr("invoicefs.credentials.load.load_p12", made_of)
    monkeypatch.setattr(
        "invoicefs.credentials.load.load_p12_content",
        lambda content, _, password: made_of(content, password),
    )
    monkeypatch.setattr("invoicefs.credentials.load.load_pem", made_of)
    monkeypatch.setattr("invoicefs.credentials.load.read_file", lambda *_: b"")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a client certificate as PEM files and as a P12 bundle."""
    folder = tmp_path_factory.mktemp("certificates")
    make_certificate(folder / "cert", "DNS:client.example")
    export = f"openssl pkcs12 -export -in cert -inkey cert.pem -out p12 -passout pass:{PLANTED}"
    subprocess.run(export.split(), cwd=folder, check=True)
    (folder / "password").write_text(f"{PLANTED}\n")
    (folder / "bytes").write_bytes(PLANTED.encode() + b"\xff")
    return folder


def write_variables(file: Path, prefix: str, texts: Texts) -> None:
    """Write the texts whose names begin with a prefix to a file; without any, remove it.

    Files are named by their absolute paths.
    """
    found = {name.removeprefix(prefix): texts[name] for name in texts if name.startswith(prefix)}
    for name in found.keys() & sources._FILE_VARIABLES:
        found[name] = os.path.abspath(found[name]) if found[name] else ""
    file.write_text("".join(f"{name}={text}\n" for name, text in found.items()))
    if not found:
        file.unlink()


def origin_of(name: str) -> str:
    """Return how messages name an option or a variable."""
    profile, _, variable = name.rpartition(":")
    return f"{variable} in the profile {profile}" if profile else name


def credentials_of(*urls: str, kinds: Texts = FIRST_KINDS) -> dict[str, str]:
    """A credential of every source, by its URL, that names its source."""
    return {
        kinds[url]: "token"
        if kinds[url] == "--token-file"
        else f"/{url}"  # the file contains "--url"
        for url in urls
    }


def used(credentials: Credentials) -> str:
    """Return the token, or the texts that the certificate was made of."""
    return credentials.token.token() if credentials.token else str(credentials.certificate)


# Which source wins


@pytest.mark.promise(
    "The first source that has a credential wins: options, the profile that `--profile` names, the "
    "variables of invoicefs, those of other clients and of Terraform, `~/.vesconfig`, the default "
    "profile, a prompt."
)
@unread
@pytest.mark.parametrize("first", range(len(URLS)))
def test_the_first_source_with_a_credential_wins(find: Find, first: int) -> None:
    urls = {URLS[number]: f"https://{number}.example/api" for number in range(first, len(URLS))}
    tenant = find({**urls, **credentials_of(*urls)})

    assert tenant.url == f"https://{first}.example"
    assert tenant.url_origin.startswith(origin_of(URLS[first]))
    assert used(tenant.credentials(None)) == f"/{URLS[first]}"


@unread
@pytest.mark.parametrize(
    ("texts", "use"),
    [
        ({"--p12": "/p", "--p12-password-file": "blanks"}, "/p  a b "),
        ({"--cert": "/c", "--key": "/k"}, "/c /k"),
        ({"--cert": "/both"}, "/both"),
        ({"INVOICEFS_TOKEN_FILE": "token"}, "/--url"),
        ({"INVOICEFS_P12": "/p", "INVOICEFS_P12_PASSWORD": " x "}, "/p  x "),
        ({"INVOICEFS_P12": "/p", "INVOICEFS_P12_PASSWORD_FILE": "blanks"}, "/p  a b "),
        ({"INVOICEFS_P12": "/p", "VES_P12_PASSWORD": "x", "VOLT_API_P12_FILE": "/q"}, "/p"),
        ({"INVOICEFS_CERT": "/c", "INVOICEFS_KEY": "/k"}, "/c /k"),
        ({"named:INVOICEFS_TOKEN_FILE": "token"}, "/--url"),
        ({"named:INVOICEFS_P12": "/p", "named:INVOICEFS_P12_PASSWORD": "x"}, "/p x"),
        ({"default:INVOICEFS_CERT": "/c", "default:INVOICEFS_KEY": "/k"}, "/c /k"),
        ({"F5XC_P12_BUNDLE": "/p", "F5XC_P12_PASSWORD": "x"}, "/p x"),
        ({"F5XC_P12_FILE": "/p", "F5XC_P12_PASSWORD": "x"}, "/p x"),
        ({"F5XC_CERT": "/c", "F5XC_KEY": "/k"}, "/c /k"),
        ({"F5XC_ACCESS_TOKEN": "t"}, "t"),
        ({"F5XC_API_TOKEN_FILE": "token"}, "/--url"),
        ({"VES_P12_CONTENT": "cDEyIGNvbnRlbnQ=", "VES_P12_PASSWORD": "x"}, "b'p12 content' x"),
        ({"VOLT_API_P12_FILE": "/p", "VES_P12_PASSWORD": "x"}, "/p x"),
        ({"VOLT_API_CERT": "/c", "VOLT_API_KEY": "/k"}, "/c /k"),
        ({"p12-bundle": "/p", "VES_P12_PASSWORD": "x"}, "/p x"),
        ({"p12-bundle": "~/a/p"}, "HOME/a/p"),
        ({"cert": "~/c", "key": "a/k"}, "HOME/c HOME/a/k"),
    ],
)
def test_every_source_supports_its_kinds_of_credentials(
    monkeypatch: pytest.MonkeyPatch, find: Find, tmp_path: Path, texts: Texts, use: str
) -> None:
    tenant = find({"--url": A, **texts})
    name = next(iter(texts))
    if name[0].islower() and ":" not in name:
        monkeypatch.chdir("/")  # paths in the file are relative to its folder
    credentials = tenant.credentials(None)

    assert used(credentials) == use.replace("HOME", str(tmp_path))
    assert credentials.token or origin_of(name) in credentials.description


@unread
@pytest.mark.parametrize(
    ("texts", "use"),
    [
        ({"--url": A, "INVOICEFS_URL": f"{A}/prefix", "INVOICEFS_TOKEN": "t"}, "t"),
        ({"--url": A, "INVOICEFS_URL": B, "INVOICEFS_TOKEN": "t", "F5XC_API_TOKEN": "x"}, "x"),
        ({"--url": A, "INVOICEFS_URL": B, "--token-file": "token"}, "/--url"),
        ({"INVOICEFS_URL": A, "--token-file": "token", "INVOICEFS_TOKEN": "t"}, "/--url"),
        ({"INVOICEFS_URL": A, "--cert": "/c", "INVOICEFS_KEY": "/k"}, "/c"),
        ({"INVOICEFS_URL": A, "--p12": "/p", "INVOICEFS_TOKEN": "t"}, "/p"),
        ({"INVOICEFS_URL": A, "--p12": "/p", "INVOICEFS_P12_PASSWORD": "x"}, "/p x"),
        ({"F5XC_API_URL": A, "F5XC_API_TOKEN": "x", "INVOICEFS_TOKEN": "t"}, "t"),
        ({"F5XC_API_URL": A, "F5XC_KEY": "/k", "INVOICEFS_CERT": "/c"}, "/c"),
        ({"VOLT_API_URL": A, "VOLT_API_CERT": "/c", "--token-file": "token"}, "/--url"),
        ({"server-urls": A, "p12-bundle": "/p", "INVOICEFS_TOKEN": "t"}, "t"),
        ({"server-urls": [A, B], "cert": "/c"}, "/c"),
        ({"F5XC_API_TOKEN": "t", "VOLT_API_URL": A, "VOLT_API_CERT": "/c"}, "/c"),
        ({"named:INVOICEFS_URL": A, "named:INVOICEFS_TOKEN": "t", "INVOICEFS_TOKEN": "x"}, "t"),
        (
            {"named:INVOICEFS_URL": A, "named:INVOICEFS_TOKEN": "t", "--token-file": "token"},
            "/--url",
        ),
        ({"named:INVOICEFS_URL": A, "F5XC_API_TOKEN": "t"}, "t"),
        ({"named:INVOICEFS_TOKEN": "t", "INVOICEFS_URL": A}, "t"),
        ({"default:INVOICEFS_URL": A, "default:INVOICEFS_TOKEN": "x", "INVOICEFS_TOKEN": "t"}, "t"),
        ({"default:INVOICEFS_URL": A, "default:INVOICEFS_TOKEN": "t", "F5XC_API_TOKEN": "x"}, "t"),
        ({"default:INVOICEFS_URL": A, "default:INVOICEFS_TOKEN": "t", "F5XC_API_URL": B}, "t"),
        ({"--url": A, "INVOICEFS_URL": "", "INVOICEFS_TOKEN": "", "F5XC_API_TOKEN": "t"}, "t"),
        ({"--url": "", "INVOICEFS_URL": A, "--p12": "", "INVOICEFS_TOKEN": "t"}, "t"),
        ({"--url": A, "F5XC_API_URL": "", "F5XC_API_TOKEN": "", "p12-bundle": "/p"}, "/p"),
    ],
)
def test_options_and_variables_combine_and_empty_ones_are_ignored(
    find: Find, texts: Texts, use: str
) -> None:
    tenant = find(texts)

    assert (tenant.url, used(tenant.credentials(None))) == (A, use)


@unread
@pytest.mark.parametrize("name", ["--ca-bundle", "INVOICEFS_CA_BUNDLE", "F5XC_CA_BUNDLE"])
@pytest.mark.parametrize("kind", CREDENTIALS["F5XC_API_URL"])
def test_a_ca_bundle_of_ours_or_of_the_source_is_trusted(
    find: Find, made: Path, name: str, kind: str
) -> None:
    tenant = find({"F5XC_API_URL": A, kind: "x", name: str(made / "cert")})

    assert tenant.credentials(None).ca_bundle == made / "cert"


@pytest.mark.parametrize("number", range(len(URLS)), ids=URLS)
def test_the_prompt_for_a_token_comes_last(find: Find, number: int) -> None:
    tenant = find({URLS[number]: A, **dict.fromkeys(URLS[number + 1 :], B)})
    credentials = tenant.credentials(lambda what: what.replace(" ", "-"))

    assert (tenant.url, used(credentials)) == (A, "API-token")
    assert "prompt" in credentials.description


def test_vesconfig_is_not_opened_when_an_earlier_source_suffices(
    find: Find, tmp_path: Path
) -> None:
    (tmp_path / ".vesconfig").mkdir()

    for first, second in pairwise(URLS[: URLS.index("server-urls")]):
        find({first: A, second: B, **credentials_of(first, second)})
    find({"F5XC_API_URL": A, "INVOICEFS_TOKEN": "t"})
    find({"F5XC_API_TOKEN": "t", "VOLT_API_URL": A, "VOLT_API_CERT": "/c"})
    with pytest.raises(UserError, match=str(tmp_path / ".vesconfig")):
        find({"--url": A})


def test_no_vesconfig_is_read_without_a_home(
    monkeypatch: pytest.MonkeyPatch, find: Find, tmp_path: Path
) -> None:
    (tmp_path / ".vesconfig").mkdir()  # also the working directory
    monkeypatch.setenv("HOME", "")
    assert find({"--url": A}).url == A

    monkeypatch.delenv("HOME")
    assert find({"--url": A}).url == A


# A credential goes to no other host


HOSTS = {  # as written, and normalised
    "https://a.example": "a.example",
    "A.example/api": "a.example",
    "https://a.example:8443": "a.example:8443",
    "https://b.example/a.example": "b.example",
    "https://a.example.b": "a.example.b",
}


@pytest.mark.promise(
    "A credential that was given together with a URL is sent to that host and to no other, "
    "wherever a server redirects to."
)
@unread
@settings(
    deadline=None,
    max_examples=800,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(URLS, st.sampled_from(list(HOSTS)))),
    st.fixed_dictionaries(
        {}, optional={url: st.sampled_from(kinds) for url, kinds in CREDENTIALS.items()}
    ),
)
def test_a_credential_never_goes_to_another_host(
    find: Find, urls: dict[str, str], kinds: dict[str, str]
) -> None:
    try:
        tenant = find({**urls, **credentials_of(*kinds, kinds=kinds)})
        place = used(tenant.credentials(None)).removeprefix("/")
    except UserError:
        return
    host = tenant.url.removeprefix("https://").split("/")[0]
    if place in urls:
        assert host == HOSTS[urls[place]]
    elif not place.startswith(OURS):
        assert tenant.url_origin.startswith(OURS)


@pytest.mark.parametrize("own", ["--url", "INVOICEFS_URL"])
@pytest.mark.parametrize(
    ("url", "is_used"),
    [
        ("", True),
        (A, True),
        ("https://A.example/prefix", True),
        ("https://a.example:8443", False),
        ("https://b.example", False),
        ("https://a.example.b", False),
    ],
)
def test_our_url_is_used_with_a_credential_for_the_same_host_or_for_none(
    find: Find, own: str, url: str, is_used: bool
) -> None:
    tenant = find({own: A, "F5XC_API_URL": url, "F5XC_API_TOKEN": "t"})

    assert (tenant.url, tenant.url_origin) == (A, own)
    assert used(tenant.credentials(lambda _: "asked")) == ("t" if is_used else "asked")


def test_the_missing_credentials_error_names_those_of_other_hosts(
    find: Find, tmp_path: Path
) -> None:
    others = {**dict.fromkeys(URLS, B), **credentials_of("F5XC_API_URL", "server-urls")}
    with pytest.raises(UserError) as raised:
        find({**others, "--url": A}).credentials(None)

    said = str(raised.value)
    for part in (A, "--token-file", "--p12", "INVOICEFS_TOKEN", "for another host"):
        assert part in said
    assert f"server-urls in {tmp_path}/.vesconfig" in said
    assert [url for url in URLS if url in said] == ["F5XC_API_URL", "server-urls"]


# URLs


@pytest.mark.parametrize("name", URLS)
def test_an_invalid_url_error_names_its_source(find: Find, name: str) -> None:
    texts = {name: "https://", **credentials_of(name)}

    with pytest.raises(UsageError, match=f"^{origin_of(name)}.*: .*is not a URL"):
        find(texts)


def test_an_unused_url_may_be_invalid(find: Find) -> None:
    bad = dict.fromkeys(URLS[2:], "https://")

    assert find({**bad, "--url": A, "INVOICEFS_TOKEN": "t"}).url == A
    assert find({**bad, "INVOICEFS_URL": "", "F5XC_API_URL": A, "F5XC_API_TOKEN": "t"}).url == A
    assert find({"--url": A, "F5XC_API_URL": "https://", "VOLT_API_CERT": "/c"}).url == A


def test_the_missing_url_error_names_the_option(find: Find) -> None:
    with pytest.raises(UsageError, match="--url"):
        find({"INVOICEFS_TOKEN": "t", "F5XC_API_TOKEN": "t", "p12-bundle": "/p"})


@pytest.mark.parametrize("name", URLS)
def test_http_is_for_loopback_only_unless_allowed(find: Find, name: str) -> None:
    texts = {name: "http://a.example", "INVOICEFS_TOKEN": "t"}

    with pytest.raises(UsageError, match=f"^{origin_of(name)}.*unencrypted"):
        find(texts)
    assert find(texts, may_be_unencrypted=True).url == "http://a.example"
    assert find({**texts, name: "http://[::1]:80"}).url == "http://[::1]:80"


# Wrong combinations of options


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["--token-file", "--p12"], ["--token-file", "--p12"]),
        (["--token-file", "--cert"], ["--token-file", "--cert"]),
        (["--p12", "--cert", "--key"], ["--p12", "--cert"]),
        (["--key"], ["--key", "--cert"]),
        (["--key", "--token-file"], ["--key", "--cert"]),
    ],
)
def test_conflicting_or_incomplete_options_are_named(
    find: Find, names: list[str], named: list[str]
) -> None:
    with pytest.raises(UsageError) as raised:
        find({"--url": A, **dict.fromkeys(names, "token")})

    assert all(name in str(raised.value) for name in named)


# Certificates


@pytest.mark.parametrize(
    ("texts", "asked"),
    [
        ({"--p12": "p12"}, ["Password of {}/p12"]),
        ({"--p12": "p12", "INVOICEFS_P12_PASSWORD": PLANTED}, []),
        ({"--p12": "p12", "--p12-password-file": "password"}, []),
        ({"--cert": "cert", "--key": "cert.pem"}, []),
    ],
)
def test_a_certificate_is_loaded_and_a_missing_password_prompted(
    monkeypatch: pytest.MonkeyPatch, find: Find, made: Path, texts: Texts, asked: list[str]
) -> None:
    monkeypatch.chdir(made)
    questions: list[str] = []

    def ask(what: str) -> str:
        questions.append(what)
        return PLANTED

    certificate = find({"--url": A, **texts}).credentials(ask).certificate

    assert isinstance(certificate, ssl.SSLContext)
    assert questions == [question.format(made) for question in asked]


@unread
@pytest.mark.parametrize(
    ("texts", "use"),
    [
        ({"--p12": "/p", "F5XC_API_URL": A, "F5XC_P12_PASSWORD": "x"}, "/p"),
        ({"INVOICEFS_P12": "/p", "VOLT_API_URL": A, "VES_P12_PASSWORD": "x"}, "/p"),
        (
            {
                "F5XC_API_URL": A,
                "F5XC_P12_BUNDLE": "/p",
                "F5XC_P12_PASSWORD": "x",
                "INVOICEFS_P12_PASSWORD": "y",
            },
            "/p x",
        ),
        (
            {
                "named:INVOICEFS_URL": A,
                "named:INVOICEFS_P12": "/p",
                "named:INVOICEFS_P12_PASSWORD": "x",
                "INVOICEFS_P12_PASSWORD_FILE": "blanks",
            },
            "/p x",
        ),
        (
            {
                "F5XC_API_URL": A,
                "F5XC_CERT": "/c",
                "F5XC_KEY": "/k",
                "INVOICEFS_KEY": "/own",
            },
            "/c /k",
        ),
    ],
)
def test_passwords_and_keys_are_from_the_source_of_the_certificate(
    find: Find, texts: Texts, use: str
) -> None:
    assert used(find(texts).credentials(lambda _: "asked")) == use


@pytest.mark.parametrize("path", ["~nosuchuser/x", "a\0b", "\ud800"])
def test_an_unusable_path_in_vesconfig_raises_user_error(find: Find, path: str) -> None:
    with pytest.raises(UserError):
        find({"--url": A, "p12-bundle": path}).credentials(None)


def test_a_home_that_is_not_a_folder_has_no_vesconfig(
    monkeypatch: pytest.MonkeyPatch, find: Find
) -> None:
    monkeypatch.setenv("HOME", "/dev/null")

    assert find({"--url": A}).url == A


# Secrets


@pytest.mark.parametrize("texts", [{"--url": A}, {}, {"--url": "https://"}, {"--key": "k"}])
def test_secrets_are_always_removed_from_the_environment(find: Find, texts: Texts) -> None:
    try:
        find({"F5XC_CERT": "stays", **SECRETS, **texts})
    except UsageError:
        assert texts != {"--url": A}

    assert not os.environ.keys() & SECRETS.keys()
    assert os.environ["F5XC_CERT"] == "stays"


@pytest.mark.parametrize(
    "texts",
    [
        {"--token-file": "password"},
        {"INVOICEFS_TOKEN": PLANTED},
        {"F5XC_API_TOKEN": PLANTED},
        {"--p12": "p12", "--p12-password-file": "password"},
        {"INVOICEFS_P12": "p12", "INVOICEFS_P12_PASSWORD": PLANTED},
        {"VOLT_API_P12_FILE": "p12", "VES_P12_PASSWORD": PLANTED},
        {"named:INVOICEFS_TOKEN": PLANTED},
        {"default:INVOICEFS_P12": "p12", "default:INVOICEFS_P12_PASSWORD": PLANTED},
        {},
    ],
)
def test_str_and_repr_never_show_a_secret(
    monkeypatch: pytest.MonkeyPatch, find: Find, made: Path, texts: Texts
) -> None:
    monkeypatch.chdir(made)
    tenant = find({"--url": A, **texts})
    credentials = tenant.credentials(lambda _: PLANTED)

    source = tenant.choice.source
    parts = (source.token, source.p12_password, source.profile)
    for printed in (tenant, source, *parts, credentials):
        assert PLANTED not in f"{printed} {printed!r}"
    assert PLANTED not in credentials.description


@pytest.mark.parametrize(
    "texts",
    [
        {"--token-file": "missing"},
        {"INVOICEFS_TOKEN": f"{PLANTED} b"},
        {"F5XC_API_TOKEN": f"{PLANTED}\x07", "p12-bundle": "p12"},
        {"INVOICEFS_TOKEN_FILE": "bytes"},
        {"INVOICEFS_P12": "missing", "INVOICEFS_P12_PASSWORD": PLANTED},
        {"--p12": "p12", "INVOICEFS_P12_PASSWORD": f"{PLANTED}b"},
        {"--p12": "p12", "INVOICEFS_P12_PASSWORD": f"{PLANTED}\udcff"},
        {"--p12": "p12", "--p12-password-file": "bytes"},
        {"--p12": "p12", "--p12-password-file": "missing", "INVOICEFS_P12_PASSWORD": PLANTED},
        {"--p12": "bytes"},
        {"--cert": "bytes"},
        {"--cert": "cert", "--key": "bytes"},
        {"INVOICEFS_TOKEN": PLANTED, "--ca-bundle": "bytes"},
        {"INVOICEFS_TOKEN": PLANTED, "--url": "https://"},
        {"INVOICEFS_TOKEN": PLANTED, "--url": f"https://u:{PLANTED}@a.example"},
        {"INVOICEFS_TOKEN": PLANTED, "--token-file": "bytes", "--p12": "bytes"},
        {"F5XC_API_TOKEN": PLANTED, "F5XC_API_URL": B},
        {"named:INVOICEFS_TOKEN": f'"{PLANTED}'},
        {"named:INVOICEFS_TOKEN": f"{PLANTED} b"},
    ],
)
def test_a_bad_source_raises_without_secrets_and_without_fallback(
    monkeypatch: pytest.MonkeyPatch, find: Find, made: Path, texts: Texts
) -> None:
    monkeypatch.chdir(made)

    with pytest.raises(UserError) as raised:
        find({"--url": A, "F5XC_API_TOKEN": "t", **texts}).credentials(lambda _: f"{PLANTED} b")

    assert PLANTED not in "".join(traceback.format_exception(raised.value))


# Secret files that are open to others


@pytest.mark.promise(
    "Secret files that others on the machine can read or change are reported when they are used."
)
@unread
@pytest.mark.parametrize(
    ("texts", "files"),
    [
        ({"--token-file": "open"}, ["open"]),
        ({"INVOICEFS_TOKEN_FILE": "closed"}, []),
        ({"--p12": "open", "--p12-password-file": "open"}, ["open"]),
        ({"--p12": "open", "--p12-password-file": "closed"}, []),
        ({"--p12": "open"}, ["open"]),  # it has no password
        ({"--cert": "cert", "--key": "open"}, ["open"]),
        ({"--cert": "open", "--key": "closed"}, []),
        ({"F5XC_CERT": "open"}, ["open"]),  # it contains the key
        ({"--cert": "closed", "INVOICEFS_TOKEN_FILE": "open"}, []),  # not used
    ],
)
def test_secret_files_open_to_others_are_named(
    monkeypatch: pytest.MonkeyPatch, find: Find, public: Path, texts: Texts, files: list[str]
) -> None:
    monkeypatch.chdir(public)
    for file, mode in (("open", 0o644), ("closed", 0o640)):
        Path(file).write_text("secret")
        Path(file).chmod(mode)

    credentials = find({"--url": A, **texts}).credentials(None)

    assert credentials.exposed_files == tuple(public / file for file in files)


@pytest.mark.parametrize("url", ["F5XC_API_URL", "F5XC_TENANT_URL"])
@pytest.mark.parametrize("token", ["F5XC_API_TOKEN", "F5XC_ACCESS_TOKEN"])
def test_variables_of_other_clients_are_read(find: Find, url: str, token: str) -> None:
    tenant = find({url: A, token: "t"})

    assert (tenant.url, used(tenant.credentials(None))) == (A, "t")


def test_a_bundle_in_a_variable_makes_a_certificate(find: Find, made: Path) -> None:
    content = base64.encodebytes((made / "p12").read_bytes()).decode()  # with line breaks
    tenant = find({"VOLT_API_URL": A, "VES_P12_CONTENT": content, "VES_P12_PASSWORD": PLANTED})

    credentials = tenant.credentials(None)

    assert credentials.certificate is not None
    assert credentials.description == "the certificate in VES_P12_CONTENT"
    assert "VES_P12_CONTENT" not in os.environ


@pytest.mark.parametrize("content", ["not base64!", "bm8gYnVuZGxl"])
def test_an_invalid_bundle_in_a_variable_is_refused_but_not_shown(find: Find, content: str) -> None:
    tenant = find({"VOLT_API_URL": A, "VES_P12_CONTENT": content, "VES_P12_PASSWORD": "x"})

    with pytest.raises(UserError, match="VES_P12_CONTENT") as refused:
        tenant.credentials(None)
    assert content not in str(refused.value)


# Profiles


def test_the_profile_that_is_used_is_known(find: Find, tmp_path: Path) -> None:
    own = {"default:INVOICEFS_URL": A, "default:INVOICEFS_TOKEN": "t"}
    file = tmp_path / ".config" / "invoicefs" / "default.env"

    used_profile = find(own).choice.profile
    assert used_profile is not None
    assert (used_profile.name, used_profile.file) == ("default", file)
    description = find(own).credentials(None).description
    assert description == f"the token from the profile default ({file})"
    assert find({**own, "--url": A}).choice.profile is not None
    assert find({**own, "--url": A, "--token-file": "token"}).choice.profile is None
    named = find({**own, "named:INVOICEFS_STATUS": "paid", "--url": A, "--token-file": "token"})
    assert named.choice.profile is not None
    assert named.choice.profile.name == "named"


def test_a_profile_that_does_not_exist_is_an_error_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run invoicefs login --profile work") as raised:
        choose(CredentialSource(is_ours=True), {}, profile_name="work", may_be_unencrypted=False)

    assert str(tmp_path / ".config" / "invoicefs" / "work.env") in str(raised.value)


def test_an_unencrypted_url_is_allowed_by_the_profile_for_itself_only(find: Find) -> None:
    allowed = {"default:INVOICEFS_URL": "http://a.example", "default:INVOICEFS_INSECURE_HTTP": "1"}
    token = {"default:INVOICEFS_TOKEN": "t"}

    assert find({**allowed, **token}).url == "http://a.example"
    with pytest.raises(UsageError, match=r"^--url"):
        find({**allowed, **token, "--url": "http://a.example"})


def test_a_profile_that_others_can_read_is_named(find: Find, public: Path) -> None:
    file = public / "invoicefs" / "default.env"
    file.parent.mkdir(mode=0o755)
    texts = {"default:INVOICEFS_URL": A, "default:INVOICEFS_TOKEN": "t"}
    write_variables(file, "default:", texts)
    file.chmod(0o644)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(public))
        credentials = find({}).credentials(None)

    assert credentials.exposed_files == (file,)


def test_a_token_in_a_profile_is_replaced_for_the_same_host_only(
    find: Find, tmp_path: Path
) -> None:
    """A mount must not send the token of another host to its own."""
    file = tmp_path / ".config" / "invoicefs" / "named.env"
    token = (
        find({"named:INVOICEFS_URL": A, "named:INVOICEFS_TOKEN": "first"}).credentials(None).token
    )
    assert token is not None

    file.write_text(f"INVOICEFS_URL={A}/prefix\nINVOICEFS_TOKEN=second\n")
    assert token.token() == "second"
    for other in (f"INVOICEFS_URL={B}\nINVOICEFS_TOKEN=of-b\n", "INVOICEFS_TOKEN=x\n", "'"):
        file.write_text(other)
        assert not token.was_replaced("second")
        assert token.token() == "second"
    file.unlink()
    assert token.token() == "second"


def test_a_token_in_a_profile_and_in_a_file_replace_each_other(find: Find, tmp_path: Path) -> None:
    """Whichever way the next login gives the token, a running mount finds it when it is refused."""
    profile = tmp_path / ".config" / "invoicefs" / "named.env"
    url = {"named:INVOICEFS_URL": A}
    typed = find({**url, "named:INVOICEFS_TOKEN": "typed"}).credentials(None).token
    assert typed is not None
    profile.write_text(f"INVOICEFS_URL={A}\nINVOICEFS_TOKEN_FILE={tmp_path}/token\n")
    assert typed.token() == "/--url"

    from_file = find({**url, "named:INVOICEFS_TOKEN_FILE": "token"}).credentials(None).token
    assert from_file is not None
    (tmp_path / "token").write_text("changed")
    assert from_file.token() == "changed"
    profile.write_text(f"INVOICEFS_URL={A}\nINVOICEFS_TOKEN=typed\n")
    assert from_file.was_replaced("changed")
    assert from_file.token() == "typed"


def test_a_named_profile_is_never_completed_from_the_default_one(find: Find) -> None:
    """Its token went to the host of the default profile, and its settings to another tenant."""
    other = {"default:INVOICEFS_URL": B, "default:INVOICEFS_TOKEN": "other"}
    for named in (
        {"named:INVOICEFS_NAMESPACE": "system"},
        {"named:INVOICEFS_TOKEN": "mine"},
        {"named:INVOICEFS_TOKEN": "mine", "F5XC_API_URL": B},
    ):
        with pytest.raises(UserError, match="invoicefs login --profile named"):
            find({**named, **other})
    with pytest.raises(UserError, match="There are no credentials"):
        find({"named:INVOICEFS_URL": A, **other}).credentials(None)


def test_the_default_profile_never_sends_its_token_to_the_url_of_another_client(
    find: Find,
) -> None:
    with pytest.raises(UserError, match="has a credential, but no INVOICEFS_URL"):
        find({"default:INVOICEFS_TOKEN": "mine", "F5XC_API_URL": B})


@pytest.mark.parametrize("path", ["token", "./token", "~user/token"])
def test_a_relative_path_in_a_profile_is_refused(find: Find, tmp_path: Path, path: str) -> None:
    find({"named:INVOICEFS_URL": A})
    file = tmp_path / ".config" / "invoicefs" / "named.env"
    file.write_text(f"INVOICEFS_URL={A}\nINVOICEFS_TOKEN_FILE={path}\n")

    with pytest.raises(UsageError, match=f"INVOICEFS_TOKEN_FILE in {file} is not an absolute path"):
        choose(CredentialSource(), {}, profile_name="named", may_be_unencrypted=False)
