"""Parsing sizes, durations, statuses and URLs, and validating the settings."""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from invoicefs.errors import UsageError
from invoicefs.folders import default_cache_dir
from invoicefs.settings import Fetch, Settings, parse_status
from invoicefs.units import (
    GIB,
    KIB,
    MIB,
    format_size_bytes,
    parse_duration_s,
    parse_octal,
    parse_size_bytes,
    rounded_size,
)
from invoicefs.urls import normalise_url, origin

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

TENANT = "https://acme.console.ves.volterra.io"
A_YEAR_S = 365 * 86_400.0
TOO_MANY_DIGITS = "9" * 400  # more than a float can hold
LONG_S = "\u017f"  # matches an s in a regular expression that ignores case

PARSERS: list[Callable[[str], object]] = [
    parse_size_bytes,
    parse_duration_s,
    parse_octal,
    parse_status,
    normalise_url,
]

texts = st.text(st.characters())
quantities = st.builds(
    "{}{}{}".format,
    st.from_regex(r"[+-]?\d*\.?\d*", fullmatch=True),
    st.sampled_from(["", " ", "\t", "_"]),
    st.sampled_from(["", "b", "k", "KB", "kiB", "MiB", "g", "t", "ms", "S", "m", "h", "d", LONG_S]),
)
url_like = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "http://", "https://", "HTTPS://", "ftp://", "//", ":", "file:///"]),
    st.sampled_from(["", "u@", "u:p@", "@"]),
    st.one_of(
        texts,
        st.text("abAB.-:[]@%/\\1", max_size=12),
        st.sampled_from(["acme.console.ves.volterra.io", "localhost", "127.0.0.1", "[::1]", "a"]),
    ),
    st.one_of(texts, st.from_regex(r"(:\d{0,6})?(/(api|web|a|\.\.|))*(\?\w*)?", fullmatch=True)),
)
pasted = st.one_of(texts, quantities, url_like)
written_quantities = st.builds(
    "{}{}".format,
    st.one_of(
        st.floats(0).map(str),
        st.integers(0, 2**70).map(str),
        st.decimals(0, 10**20, places=9).map(str),
        st.sampled_from(["nan", "inf", "Infinity", "-0", "1e3", "1_000", "0x10"]),
        texts,
    ),
    st.sampled_from(["", "k", "M", "GiB", "ms", "s", "m", "h"]),
)


# All parsers


@pytest.mark.parametrize("parse", PARSERS)
@unhurried
@given(text=pasted)
@example(text="")
@example(text="\x00")
@example(text="\ud800")
@example(text=TOO_MANY_DIGITS)
@example(text=f"5{LONG_S}")
@example(text=f"5m{LONG_S}")
@example(text="https://[::1")
@example(text="https://a:b:c")
@example(text="https://exam\u2100ple.com")
def test_a_parser_raises_usage_errors_of_one_line_and_nothing_else(
    parse: Callable[[str], object], text: str
) -> None:
    assert refusal_of(parse, text).isprintable()


def refusal_of(parse: Callable[[str], object], text: str) -> str:
    """Return the error of a parser for a text, or an empty text."""
    try:
        parse(text)
    except UsageError as error:
        return str(error)
    return ""


# Sizes


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("1b", 1),
        ("64k", 64 * KIB),
        ("64K", 64 * KIB),
        ("64KB", 64 * KIB),
        ("64KiB", 64 * KIB),
        ("64kib", 64 * KIB),
        ("16 MiB", 16 * MIB),
        (" 16M\n", 16 * MIB),
        ("1.5G", 3 * GIB // 2),
        ("1KiB", 1024),
        ("1MiB", 1_048_576),
        ("1GiB", 1_073_741_824),
        ("9007199254740993", 2**53 + 1),
    ],
)
def test_a_size_is_a_number_of_bytes_or_of_binary_units(text: str, size_bytes: int) -> None:
    assert parse_size_bytes(text) == size_bytes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "+1",
        "1e6",
        "1,5G",
        "1.G",
        ".5G",
        "1T",
        "1MiBs",
        "1s",
        "nan",
        "1_000",
        "\u0661",
        TOO_MANY_DIGITS,
    ],
)
def test_a_malformed_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        parse_size_bytes(text)


@unhurried
@given(
    st.one_of(st.integers(0, 2**63 - 1), st.builds(int.__lshift__, st.integers(0, 99), st.just(20)))
)
def test_a_formatted_size_is_parsed_back(size_bytes: int) -> None:
    assert parse_size_bytes(format_size_bytes(size_bytes)) == size_bytes


@unhurried
@given(written_quantities)
@example(TOO_MANY_DIGITS)
@example(str(2**63))
def test_any_text_is_a_possible_file_size_or_a_usage_error(text: str) -> None:
    if not refusal_of(parse_size_bytes, text):
        size_bytes = parse_size_bytes(text)
        assert type(size_bytes) is int
        assert 0 <= size_bytes < 2**63


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0"),
        (KIB, "1KiB"),
        (1536, "1536"),
        (16 * MIB, "16MiB"),
        (1536 * MIB, "1536MiB"),
        (2048 * GIB, "2048GiB"),
    ],
)
def test_a_size_is_formatted_in_the_largest_exact_unit(size_bytes: int, text: str) -> None:
    assert format_size_bytes(size_bytes) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (KIB, "1.0 KiB"),
        (40_000_000, "38.1 MiB"),
        (3 * GIB // 2, "1.5 GiB"),
        (5 * 1024 * GIB, "5.0 TiB"),
    ],
)
def test_a_size_is_rounded_in_a_suitable_unit(size_bytes: int, text: str) -> None:
    assert rounded_size(size_bytes) == text


# Durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("30", 30.0),
        ("30s", 30.0),
        ("90S", 90.0),
        ("250ms", 0.25),
        ("0.5s", 0.5),
        ("5m", 300.0),
        ("1.5 h", 5400.0),
        (" 1h\n", 3600.0),
    ],
)
def test_a_duration_is_a_number_of_seconds_minutes_or_hours(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "-1s",
        "+1",
        "1e3",
        "1m30s",
        "5min",
        "1d",
        ".5s",
        "1,5h",
        "nan",
        "\u0661s",
        f"5{LONG_S}",
        f"5m{LONG_S}",
        TOO_MANY_DIGITS,
    ],
)
def test_a_malformed_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration"):
        parse_duration_s(text)


@unhurried
@given(written_quantities)
@example(TOO_MANY_DIGITS)
@example("8760.000001h")
def test_any_text_is_a_duration_of_at_most_a_year_or_a_usage_error(text: str) -> None:
    if not refusal_of(parse_duration_s, text):
        seconds = parse_duration_s(text)
        assert type(seconds) is float
        assert 0.0 <= seconds <= A_YEAR_S


@unhurried
@given(st.integers(0, 8760), st.sampled_from([("s", 1), ("m", 60), ("h", 3600)]))
def test_every_unit_of_a_duration_is_parsed(number: int, unit: tuple[str, int]) -> None:
    assert parse_duration_s(f"{number}{unit[0]}") == number * unit[1]


# Octal numbers


@pytest.mark.parametrize(
    ("text", "number"), [("022", 0o22), ("0o22", 0o22), ("22", 0o22), ("0", 0), ("777", 0o777)]
)
def test_an_octal_number_can_have_a_prefix(text: str, number: int) -> None:
    assert parse_octal(text) == number


@pytest.mark.parametrize("text", ["", "8", "0x12", "0b1", "rwx", "0o", "2.2", "u=rwx", "\ud800"])
def test_a_malformed_octal_number_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not an octal number"):
        parse_octal(text)


@given(st.integers(0, 0o7777), st.sampled_from(["o", "03o", "04o", "#o"]))
def test_a_formatted_octal_number_is_parsed_back(number: int, form: str) -> None:
    assert parse_octal(format(number, form)) == number


# Statuses


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("paid", "paid"),
        ("PAID", "paid"),
        (" Paid ", "paid"),
        ("STATUS_PAID", "paid"),
        ("STATUS_UNKNOWN", "unknown"),
    ],
)
def test_a_status_can_be_written_as_in_the_api(text: str, status: str) -> None:
    assert parse_status(text) == status


@pytest.mark.parametrize("text", ["", " ", "STATUS_", "paid,issued", "paid issued", "5", "*", "\0"])
def test_an_unknown_status_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a status"):
        parse_status(text)


# URLs


@pytest.mark.parametrize("scheme", ["", "https://", "HTTPS://"])
@pytest.mark.parametrize("host", ["acme.console.ves.volterra.io", "Acme.Console.Ves.Volterra.IO"])
@pytest.mark.parametrize(
    "path",
    [
        "",
        "/api",
        "/api/web",
        "/api/web/namespaces/system/usage/invoices/custom_list?limit=5",
        "/web",
        "/web/home",
        "/web/workspaces/billing/invoices?tab=1#top",
        "/web/login?back=https://acme.console.ves.volterra.io/web/home",
        "?a=b",
        "#top",
    ],
)
def test_the_base_url_is_found_in_any_pasted_url(scheme: str, host: str, path: str) -> None:
    assert normalise_url(scheme + host + path) == TENANT


@pytest.mark.parametrize(
    ("url", "base"),
    [
        (f" {TENANT}\n", TENANT),
        ("https://host/some/prefix", "https://host/some/prefix"),
        ("https://host/some//prefix", "https://host/some/prefix"),
        ("gateway.example/some/prefix", "https://gateway.example/some/prefix"),
        ("https://host/some/prefix/api", "https://host/some/prefix"),
        ("https://host/some/prefix/api/web/namespaces", "https://host/some/prefix"),
        ("https://host/Some/Prefix", "https://host/Some/Prefix"),
        ("https://host/api/v1", "https://host/api/v1"),
        ("https://host/apis", "https://host/apis"),
        ("https://host/website", "https://host/website"),
        ("https://host/f5/web", "https://host/f5/web"),
    ],
)
def test_a_path_prefix_of_a_gateway_is_kept(url: str, base: str) -> None:
    assert normalise_url(url) == base


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://acme.example:8443", "https://acme.example:8443"),
        ("acme.example:8443/api", "https://acme.example:8443"),
        ("https://acme.example:/", "https://acme.example"),
        ("https://10.0.0.1:8443/", "https://10.0.0.1:8443"),
        ("https://gateway:8443", "https://gateway:8443"),
        ("https://[2001:DB8::1]/api", "https://[2001:db8::1]"),
        ("https://[2001:db8::1]:8443/f5/", "https://[2001:db8::1]:8443/f5"),
        ("[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
    ],
)
def test_ports_and_addresses_are_kept(url: str, base: str) -> None:
    assert normalise_url(url) == base


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://localhost:8080/", "http://localhost:8080"),
        ("http://LOCALHOST", "http://localhost"),
        ("http://127.0.0.1:8080/api", "http://127.0.0.1:8080"),
        ("http://127.8.9.1", "http://127.8.9.1"),
        ("http://[::1]:8080/f5", "http://[::1]:8080/f5"),
        ("localhost:8080", "https://localhost:8080"),
        ("127.0.0.1", "https://127.0.0.1"),
        ("[::1]", "https://[::1]"),
    ],
)
def test_a_loopback_url_keeps_http_but_defaults_to_https(url: str, base: str) -> None:
    assert normalise_url(url) == base


@pytest.mark.parametrize(
    "url",
    [
        "http://acme.console.ves.volterra.io",
        "HTTP://acme.example",
        "http://0.0.0.0:8080",
        "http://gateway",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "http://127.0.0.1x",
        "http://1127.0.0.1",
        "http://[::2]",
        "http://[2001:db8::1]",
    ],
)
def test_http_to_another_machine_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="unencrypted"):
        normalise_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "console.ves.volterra.io",
        "https://Console.ves.volterra.io/api",
        "https://console.ves.volterra.io./",
        "https://.console.ves.volterra.io",
        "acme",
    ],
)
def test_a_url_without_a_tenant_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"names no tenant|is not a URL"):
        normalise_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://u:hidden@acme.example",
        "https://hidden@acme.example",
        "u:hidden@acme.example",
        "https://@acme.example",
        "http://u:hidden@localhost",
    ],
)
def test_a_url_with_a_password_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(UsageError, match="user name or password") as raised:
        normalise_url(url)

    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://",
        "https://:8443",
        "//acme.example",
        "ftp://acme.example",
        "file:///etc/passwd",
        "://acme.example",
        "https:acme.example",
        "https://[::1",
        "https://::1",
        "https://[acme]",
        "https://acme.example:99999",
        "https://acme.example:-1",
        "https://acme.example:0",
        "https://https://acme.example",
        "https://exam\u2100ple.com",
    ],
)
def test_a_malformed_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is not a URL"):
        normalise_url(url)


@pytest.mark.parametrize(
    "host",
    [
        "no url at all.",
        "acme.example.com acme.example",
        "{tenant}.console.ves.volterra.io",
        "<tenant>.console.ves.volterra.io",
        "$TENANT.console.ves.volterra.io",
        "acme.example\\api",
        "acme\x00.example",
        "..",
        "acme..example",
    ],
)
@pytest.mark.parametrize("scheme", ["", "https://"])
def test_an_invalid_host_name_is_refused(scheme: str, host: str) -> None:
    with pytest.raises(UsageError):
        normalise_url(scheme + host)


@pytest.mark.parametrize("host", ["a_b.example", "xn--mnchen-3ya.example", "a-b.c0m", "acme.test"])
def test_every_valid_host_name_is_accepted(host: str) -> None:
    assert normalise_url(host) == f"https://{host}"


@unhurried
@given(
    st.sampled_from(["https://host", "http://[::1]:80", "acme.example:8443"]),
    st.lists(st.sampled_from(["api", "web", "namespaces", "some", ".", "", "API"]), max_size=5),
)
@example("https://host", ["api", "api"])
def test_normalising_is_idempotent_and_removes_slashes_and_api_at_the_end(
    host: str, segments: list[str]
) -> None:
    base = normalise_url("/".join([host, *segments]))

    assert not base.endswith(("/", "/api"))
    assert normalise_url(base) == base


@unhurried
@given(url_like)
def test_a_base_url_uses_https_or_is_local_and_has_no_credentials(url: str) -> None:
    try:
        base = normalise_url(url)
    except UsageError:
        return
    assert base.startswith(("https://", "http://localhost", "http://127.", "http://[::1]"))
    assert "@" not in base.split("/")[2]
    assert not base.endswith("/")


# Settings


def test_the_defaults_are_as_documented(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert Settings(TENANT) == Settings(
        url=TENANT,
        namespaces=(),
        statuses=frozenset(),
        cache_dir=tmp_path / "invoicefs",
        cache_size_bytes=GIB,
        fetch=Fetch.ON_OPEN,
        parallel=8,
        timeout_s=30.0,
        max_wait_s=5.0,
        list_ttl_s=60.0,
        active_ttl_s=300.0,
        max_pdf_size_bytes=16 * MIB,
        uid=os.getuid(),
        gid=os.getgid(),
        umask=0,
        allow_other=False,
        xattr=False,
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"parallel": 0},
        {"parallel": 1001},
        {"timeout_s": 0.0, "max_wait_s": 0.0},
        {"timeout_s": 4.0, "max_wait_s": 5.0},
        {"timeout_s": 99_999_999 * 3600.0},  # longer than any wait for a lock
        {"timeout_s": float("inf")},
        {"max_pdf_size_bytes": KIB - 1},
        {"cache_size_bytes": MIB - 1},
        {"fetch": Fetch.ON_STAT, "active_ttl_s": 0.0},
        {"umask": -1},
        {"umask": 0o1000},
        {"namespaces": ("",)},
        {"namespaces": ("system", "Not_A")},
    ],
)
def test_invalid_values_are_refused_with_the_name_of_their_option(
    fields: dict[str, Any],
) -> None:
    with pytest.raises(UsageError) as raised:
        Settings(TENANT, **fields)

    options = {
        "timeout_s": "timeout",
        "max_wait_s": "max-wait",
        "max_pdf_size_bytes": "max-pdf-size",
        "cache_size_bytes": "cache-size",
        "namespaces": "namespace",
    }
    named = [options.get(field, field) for field in fields]
    assert any(option in str(raised.value) for option in named)


@pytest.mark.parametrize(
    "fields",
    [
        {"parallel": 1},
        {"parallel": 1000},
        {"timeout_s": 5.0, "max_wait_s": 5.0},
        {"timeout_s": 0.1, "max_wait_s": 0.0},
        {"list_ttl_s": 0.0},
        {"active_ttl_s": 0.0},
        {"fetch": Fetch.ON_STAT, "active_ttl_s": 0.001},
        {"max_pdf_size_bytes": KIB},
        {"cache_size_bytes": MIB},
        {"umask": 0o777},
        {"namespaces": ("system", "shared")},
    ],
)
def test_the_values_at_the_limits_are_accepted(fields: dict[str, Any]) -> None:
    made = Settings(TENANT, **fields)

    assert {field: getattr(made, field) for field in fields} == fields


@pytest.mark.parametrize(
    ("umask", "file_mode", "directory_mode"),
    [(0o000, 0o444, 0o755), (0o022, 0o444, 0o755), (0o077, 0o400, 0o700), (0o777, 0, 0)],
)
def test_the_umask_removes_permissions(umask: int, file_mode: int, directory_mode: int) -> None:
    made = Settings(TENANT, umask=umask)

    assert (made.file_mode, made.directory_mode) == (file_mode, directory_mode)


def test_settings_are_immutable() -> None:
    made = Settings(TENANT)

    for field in dataclasses.fields(made):
        with pytest.raises(FrozenInstanceError):
            setattr(made, field.name, None)


# The folder of the cache


@pytest.mark.parametrize(
    ("cache_home", "home", "folder"),
    [
        ("/a/cache", "/home/b", "/a/cache/invoicefs"),
        (None, "/home/b", "/home/b/.cache/invoicefs"),
        ("", "/home/b", "/home/b/.cache/invoicefs"),
        ("relative", "/home/b", "/home/b/.cache/invoicefs"),
        (None, None, "/var/cache/invoicefs"),
        (None, "", "/var/cache/invoicefs"),
    ],
)
def test_the_cache_folder_follows_the_xdg_base_directory_specification(
    monkeypatch: pytest.MonkeyPatch, cache_home: str | None, home: str | None, folder: str
) -> None:
    for variable, value in (("XDG_CACHE_HOME", cache_home), ("HOME", home)):
        monkeypatch.delenv(variable, raising=False)
        if value is not None:
            monkeypatch.setenv(variable, value)

    assert default_cache_dir() == Path(folder)


def user_with(home: str) -> Callable[[int], Any]:
    return lambda _: SimpleNamespace(pw_dir=home)


def unknown_user(_: int) -> Any:
    raise KeyError("no such user")


@pytest.mark.parametrize(
    ("uid", "user", "folder"),
    [
        (1000, user_with("/home/alice"), "/home/alice/.cache/invoicefs"),
        (1000, unknown_user, "/var/cache/invoicefs"),
        (0, user_with("/root"), "/var/cache/invoicefs"),
    ],
)
def test_without_home_the_user_database_is_used_except_for_root(
    monkeypatch: pytest.MonkeyPatch, uid: int, user: Callable[[int], Any], folder: str
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.geteuid", lambda: uid)
    monkeypatch.setattr("pwd.getpwuid", user)

    assert default_cache_dir() == Path(folder)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("https://a.example", "https://a.example:443/x", True),
        ("https://a.example", "HTTPS://A.Example/", True),
        ("http://a.example:80", "http://a.example", True),
        ("http://a.example", "https://a.example", False),
        ("https://a.example", "https://a.example:8443", False),
        ("https://a.example", "ftp://a.example", False),
    ],
)
def test_equivalent_origins_are_equal(one: str, other: str, is_same: bool) -> None:
    assert (origin(one) == origin(other)) is is_same
