"""Client certificates: which files can be loaded, and the errors for those that cannot.

That private keys are never exposed is tested in `test_private_keys`.
"""

import base64
import ssl
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.backends.openssl import backend
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from invoicefs.credentials.certificates import check_ca_bundle, load_p12, load_pem
from invoicefs.errors import UserError
from tests.support.certificates import EC, RSA, Authority, Identity, hide_cryptography

PASSWORD = "hush-hush"
HOST = "tenant.invalid"
JUNK = [b"", b"\n", b"hush-hush", b"\x89PNG\r\n\x1a\n", b"0\x82\x01\x00", bytes(range(256))]

Load = Callable[[Path], object]

EVERY_LOADER = pytest.mark.parametrize(
    "load",
    [
        pytest.param(lambda file: load_pem(file, None), id="PEM"),
        pytest.param(lambda file: load_p12(file, PASSWORD), id="P12"),
        pytest.param(lambda file: load_p12(file, None), id="P12 without password"),
        pytest.param(check_ca_bundle, id="CA bundle"),
    ],
)
BOTH_FORMS = pytest.mark.parametrize(
    "load",
    [
        pytest.param(lambda of: load_pem(of.pem(), None), id="PEM"),
        pytest.param(lambda of: load_p12(of.p12(PASSWORD), PASSWORD), id="P12"),
    ],
)


def refusal(load: Callable[..., object], *arguments: object) -> str:
    """The error message for a user: one line, without a secret even in the traceback."""
    with pytest.raises(UserError) as raised:
        load(*arguments)
    text = "".join(traceback.format_exception(raised.value))
    assert PASSWORD not in text
    assert "PRIVATE KEY" not in text
    sentence = str(raised.value)
    assert sentence.isprintable()
    return sentence


# The certificate is presented


@pytest.fixture(scope="module")
def server(authority: Authority) -> ssl.SSLContext:
    return authority.issue("server", hosts=[f"DNS:{HOST}"]).for_server(clients=authority)


def shown(context: ssl.SSLContext, server: ssl.SSLContext) -> str:
    """Return the name in the client certificate that the server receives and trusts."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = context.wrap_bio(back, there, server_hostname=HOST)
    far = server.wrap_bio(there, back, server_side=True)
    for end in (near, far, near, far):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    certificate: Any = far.getpeercert()
    (((_, name),),) = certificate["subject"]
    return str(name)


@BOTH_FORMS
@pytest.mark.parametrize("key", [EC, RSA], ids=["EC", "RSA"])
def test_a_certificate_is_presented_to_a_trusted_server(
    authority: Authority, server: ssl.SSLContext, load: Callable[..., ssl.SSLContext], key: str
) -> None:
    context = load(authority.issue("somebody", key=key))

    with pytest.raises(ssl.SSLCertVerificationError):
        shown(context, server)
    context.load_verify_locations(authority.certificate)

    assert shown(context, server) == "somebody"


@BOTH_FORMS
def test_intermediate_certificates_are_sent_along(
    authority: Authority,
    server: ssl.SSLContext,
    tmp_path: Path,
    load: Callable[..., ssl.SSLContext],
) -> None:
    above = Authority(tmp_path / "above", "Above", below=authority)
    context = load(Authority(tmp_path / "below", "Below", below=above).issue("somebody"))
    context.load_verify_locations(authority.certificate)

    assert shown(context, server) == "somebody"


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["-legacy"],
        pytest.param(
            ["-nomac"],
            marks=pytest.mark.skipif(
                backend.openssl_version_number() < 0x30200000,
                reason="the OpenSSL of cryptography cannot read bundles without a MAC",
            ),
        ),
        ["-keypbe", "NONE", "-certpbe", "NONE"],
    ],
)
@pytest.mark.parametrize("key", [EC, RSA], ids=["EC", "RSA"])
def test_a_bundle_may_use_old_or_new_encryption(
    authority: Authority, server: ssl.SSLContext, options: list[str], key: str
) -> None:
    """``-legacy`` is RC2 and 3DES."""
    context = load_p12(authority.issue("somebody", key=key).p12(PASSWORD, *options), PASSWORD)
    context.load_verify_locations(authority.certificate)

    assert shown(context, server) == "somebody"


@pytest.mark.parametrize("password", ["", "pass word", "pässwörd-€-\U0001f600", "x" * 200])
def test_any_text_may_be_the_password(client: Identity, password: str) -> None:
    bundle = client.p12("x", "-passout", f"pass:{password}")

    assert load_p12(bundle, password)
    assert str(bundle) in refusal(load_p12, bundle, f"{password}{PASSWORD}")


@pytest.mark.parametrize("options", [[], ["-traditional"]])
@pytest.mark.parametrize("key", [EC, RSA], ids=["EC", "RSA"])
def test_a_separate_key_file_may_have_either_form(
    authority: Authority, server: ssl.SSLContext, options: list[str], key: str
) -> None:
    identity = authority.issue("somebody", key=key)
    context = load_pem(identity.certificate, identity.key_as(*options))
    context.load_verify_locations(authority.certificate)

    assert shown(context, server) == "somebody"


# Files that cannot be used


@EVERY_LOADER
def test_a_missing_file_or_a_folder_is_named_in_the_error(tmp_path: Path, load: Load) -> None:
    missing_file = tmp_path / "missing"

    assert f"{missing_file} cannot be read: No such file" in refusal(load, missing_file)
    assert f"{tmp_path} is not a regular file" in refusal(load, tmp_path)


@EVERY_LOADER
@pytest.mark.parametrize("content", JUNK)
def test_a_file_of_junk_is_named_in_the_error(tmp_path: Path, load: Load, content: bytes) -> None:
    file = tmp_path / "junk"
    file.write_bytes(content)

    assert str(file) in refusal(load, file)


@pytest.mark.parametrize("key", [None, "of another"])
def test_a_certificate_without_its_key_is_named_in_the_error(
    authority: Authority, client: Identity, key: str | None
) -> None:
    other = authority.issue("other").key if key else None

    assert str(client.certificate) in refusal(load_pem, client.certificate, other)
    assert str(client.key) in refusal(load_pem, client.key, None)


@pytest.mark.parametrize("options", [["-nokeys"], ["-nocerts"]])
def test_a_bundle_without_key_or_certificate_is_named_in_the_error(
    client: Identity, options: list[str]
) -> None:
    bundle = client.p12(PASSWORD, *options)

    assert f"{bundle} has no certificate with its private key" in refusal(
        load_p12, bundle, PASSWORD
    )


@pytest.mark.parametrize("options", [[], ["-legacy"]])
@pytest.mark.parametrize(
    ("password", "words"),
    [
        (None, "needs a password"),
        ("", "cannot be opened with this password"),
        (f"{PASSWORD}-wrong", "cannot be opened with this password"),
        (f"{PASSWORD}\udcff", "cannot be opened with this password"),
    ],
)
def test_a_wrong_password_error_names_the_bundle(
    client: Identity, options: list[str], password: str | None, words: str
) -> None:
    bundle = client.p12(PASSWORD, *options)

    assert f"{bundle} {words}" in refusal(load_p12, bundle, password)


@pytest.mark.parametrize("form", [[], ["-traditional"]], ids=["PKCS8", "traditional"])
def test_an_encrypted_pem_key_error_suggests_a_bundle(
    client: Identity, tmp_path: Path, form: list[str]
) -> None:
    key = client.key_as("-aes256", "-passout", f"pass:{PASSWORD}", *form)
    together = tmp_path / "together.pem"
    together.write_bytes(client.certificate.read_bytes() + key.read_bytes())

    for certificate, given_key in ((client.certificate, key), (together, None)):
        words = refusal(load_pem, certificate, given_key)
        assert str(given_key or certificate) in words
        assert "--p12" in words


@BOTH_FORMS
@pytest.mark.parametrize(
    ("begin", "end", "words"),
    [
        (
            datetime(2020, 1, 1, tzinfo=UTC),
            datetime(2021, 2, 3, tzinfo=UTC),
            "expired on 2021-02-03",
        ),
        (datetime(2046, 7, 8, tzinfo=UTC), datetime(2047, 1, 1, tzinfo=UTC), "before 2046-07-08"),
    ],
)
def test_an_expired_or_future_certificate_error_gives_the_date(
    authority: Authority, load: Callable[..., object], begin: datetime, end: datetime, words: str
) -> None:
    identity = authority.issue("somebody", begin=begin, end=end)

    message = refusal(load, identity)

    assert words in message
    assert str(identity.certificate.with_suffix("")) in message


@BOTH_FORMS
def test_a_key_too_weak_for_openssl_is_named_in_the_error(
    authority: Authority, load: Callable[..., object]
) -> None:
    identity = authority.issue("somebody", key="rsa:1024")

    assert str(identity.certificate.with_suffix("")) in refusal(load, identity)


@pytest.mark.parametrize("content", JUNK)
def test_a_key_file_of_junk_is_named_in_the_error(
    client: Identity, tmp_path: Path, content: bytes
) -> None:
    key = tmp_path / "junk.key"
    key.write_bytes(content)

    assert str(key) in refusal(load_pem, client.certificate, key)


@EVERY_LOADER
def test_an_impossible_file_name_is_shown_in_the_error(load: Load) -> None:
    assert "a\\x00b" in refusal(load, Path("a\0b"))


# Certificates of servers


def test_a_ca_bundle_may_contain_one_certificate_or_several(
    authority: Authority, tmp_path: Path
) -> None:
    several = tmp_path / "several.pem"
    several.write_bytes(b"# ours\n" + 2 * authority.certificate.read_bytes() + b"# the end\n")

    check_ca_bundle(authority.certificate)
    check_ca_bundle(several)


@pytest.mark.parametrize("half", [slice(200), slice(30, None)])
def test_a_truncated_ca_bundle_is_named_in_the_error(
    authority: Authority, tmp_path: Path, half: slice
) -> None:
    content = authority.certificate.read_bytes()
    file = tmp_path / "half.pem"
    file.write_bytes(content + content[half] if half.stop else content[half])

    assert str(file) in refusal(check_ca_bundle, file)


def test_a_key_or_a_revocation_list_is_not_a_ca_bundle(
    client: Identity, authority: Authority
) -> None:
    for file in (client.key, authority.revocation_list()):
        assert str(file) in refusal(check_ca_bundle, file)


# Without the package cryptography


def test_a_bundle_without_cryptography_says_what_to_install(
    client: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = client.p12(PASSWORD)
    hide_cryptography(monkeypatch)

    message = refusal(load_p12, bundle, PASSWORD)

    assert str(bundle) in message
    assert "-m pip install cryptography" in message


def test_pem_files_work_without_cryptography(
    authority: Authority,
    client: Identity,
    server: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide_cryptography(monkeypatch)

    for context in (load_pem(client.pem(), None), load_pem(client.certificate, client.key)):
        context.load_verify_locations(authority.certificate)
        assert shown(context, server) == client.name
    assert str(client.certificate) in refusal(load_pem, client.certificate, None)


# Arbitrary content

armoured = st.builds(
    lambda kind, body: f"-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n".encode(),
    st.sampled_from(["CERTIFICATE", "PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"]),
    st.binary(max_size=60).map(lambda content: base64.b64encode(content).decode()),
)
contents = st.one_of(st.binary(max_size=300), st.lists(armoured, max_size=3).map(b"".join))
damages = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 3), st.binary(max_size=3)),
    min_size=1,
    max_size=3,
)
in_one_folder = settings(
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def damaged(content: bytes, damage: list[tuple[float, int, bytes]]) -> bytes:
    """Return the content with some bytes removed and others inserted."""
    for where, count, bytes_ in damage:
        at = int(where * len(content))
        content = content[:at] + bytes_ + content[at + count :]
    return content


@EVERY_LOADER
@in_one_folder
@given(content=contents)
def test_a_file_of_any_bytes_loads_or_raises_user_error(
    tmp_path: Path, load: Load, content: bytes
) -> None:
    file = tmp_path / "any"
    file.write_bytes(content)

    with suppress(UserError):
        load(file)


@in_one_folder
@given(damage=damages)
def test_a_damaged_bundle_loads_or_raises_user_error(
    client: Identity, tmp_path: Path, damage: list[tuple[float, int, bytes]]
) -> None:
    good = client.p12("", "-keypbe", "NONE", "-certpbe", "NONE", "-nomac").read_bytes()
    file = tmp_path / "damaged"
    file.write_bytes(damaged(good, damage))

    with suppress(UserError):
        load_p12(file, None)


@in_one_folder
@given(damage=damages)
def test_a_damaged_certificate_loads_or_raises_user_error(
    client: Identity, tmp_path: Path, damage: list[tuple[float, int, bytes]]
) -> None:
    content = damaged(ssl.PEM_cert_to_DER_cert(client.certificate.read_text()), damage)
    file = tmp_path / "damaged"
    file.write_text(ssl.DER_cert_to_PEM_cert(content) + client.key.read_text())

    with suppress(UserError):
        load_pem(file, None)
    with suppress(UserError):
        check_ca_bundle(file)


def test_an_unknown_certificate_version_loads_or_raises_user_error(
    authority: Authority,
) -> None:
    identity = authority.issue("somebody")
    content = ssl.PEM_cert_to_DER_cert(identity.certificate.read_text())
    content = content.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05", 1)
    identity.certificate.write_text(ssl.DER_cert_to_PEM_cert(content))

    with suppress(UserError):
        load_pem(identity.pem(), None)
    with suppress(UserError):
        load_p12(identity.p12(PASSWORD), PASSWORD)


def test_a_bundle_with_trailing_bytes_loads_without_a_warning(client: Identity) -> None:
    bundle = client.p12(PASSWORD)
    bundle.write_bytes(bundle.read_bytes() + b"\n")

    assert load_p12(bundle, PASSWORD)
