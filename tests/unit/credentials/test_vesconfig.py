"""``~/.vesconfig`` is read, whatever it contains."""

import secrets
import sys
import traceback
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from invoicefs.credentials.vesconfig import read_vesconfig
from invoicefs.errors import UserError

PLANTED = secrets.token_hex()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / ".vesconfig"


# Reading


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("server-urls: https://a.example/api", {"server-urls": "https://a.example/api"}),
        ("server-urls: [https://a.example, https://b]", {"server-urls": "https://a.example"}),
        ("---\ncert: ~/a.crt  # mine\nkey: 'b key'\n", {"cert": "~/a.crt", "key": "b key"}),
        ("p12-bundle: schlüssel.p12", {"p12-bundle": "schlüssel.p12"}),
        ("", {}),
        ("- a\n- b: c\n", {}),
        ("7", {}),
        ("word", {}),
    ],
)
def test_texts_are_read_and_the_first_of_several_urls(
    file: Path, content: str, texts: dict[str, str]
) -> None:
    file.write_text(content, encoding="utf-8")

    assert read_vesconfig(file) == texts


@pytest.mark.parametrize(
    "content",
    [
        "server-urls: []",
        "p12-bundle: [7]",
        "cert: {a: b}",
        "key:",
    ],
)
def test_a_value_that_is_not_text_is_ignored(file: Path, content: str) -> None:
    file.write_text(f"{content}\nca: b\n")

    assert read_vesconfig(file) == {"ca": "b"}


def test_a_missing_vesconfig_is_empty(tmp_path: Path) -> None:
    assert read_vesconfig(tmp_path / "missing") == {}
    assert read_vesconfig(tmp_path / "missing" / ".vesconfig") == {}


# Files that cannot be used


@pytest.mark.parametrize(
    "content",
    [
        b"a: X: c",
        b"a: 'X",
        b"\ta: X",
        b"a: *X",
        b"--- X\n--- X\n",
        b"X\x00",
        b"X\xff",
        b"[" * 10_000,
        b"{a: " * 10_000,
        b"- " * 10_000,
    ],
    ids=lambda content: repr(content[:16]),
)
def test_an_invalid_yaml_error_names_the_file_but_not_its_content(
    file: Path, content: bytes
) -> None:
    file.write_bytes(content.replace(b"X", PLANTED.encode()))

    with pytest.raises(UserError, match="not YAML") as raised:
        read_vesconfig(file)

    assert str(file) in str(raised.value)
    assert PLANTED not in "".join(traceback.format_exception(raised.value))


def test_a_folder_or_unreadable_file_is_named_in_the_error(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)

    for path, why in ((tmp_path, "not a regular file"), (loop, "Too many levels")):
        with pytest.raises(UserError, match=why) as raised:
            read_vesconfig(path)
        assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [
        "a: !!python/object/apply:os.mkdir [X]",
        "!!python/object/apply:os.system ['mkdir X']",
        "a: !!python/name:os.mkdir",
    ],
)
def test_a_yaml_tag_creates_no_object_and_runs_no_code(file: Path, content: str) -> None:
    made = file.with_name("made")
    file.write_text(content.replace("X", str(made)))

    assert read_vesconfig(file) == {}
    assert not made.exists()


@pytest.mark.parametrize("text", ["7", "2020-99-99", "true", "null", "0x", "!!int x", "!!bool x"])
def test_values_that_look_like_other_types_are_text(file: Path, text: str) -> None:
    file.write_text(f"p12-bundle: {text}")

    assert read_vesconfig(file) == {"p12-bundle": text.split()[-1]}


@settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    st.one_of(
        st.binary(max_size=40),
        st.text(st.characters(codec="utf-8"), max_size=40).map(str.encode),
        st.text("ab01-:.,[]{}&*|>'\"#%@ \n\t~?=<", max_size=40).map(str.encode),
    )
)
@example(b"a: &a {<<: *a}")
@example(b"a: &a [*a]")
def test_any_vesconfig_yields_texts_or_raises_user_error(file: Path, content: bytes) -> None:
    file.write_bytes(content)

    try:
        found = read_vesconfig(file)
    except UserError:
        return
    assert all(isinstance(key, str) and text for key, text in found.items())


# Without PyYAML


def test_a_vesconfig_without_pyyaml_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert read_vesconfig(file) == {}

    file.write_text("server-urls: https://a.example")

    with pytest.raises(UserError) as raised:
        read_vesconfig(file)
    assert str(file) in str(raised.value)
    assert "-m pip install pyyaml" in str(raised.value)
