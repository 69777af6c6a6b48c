"""What is read of ``~/.vesconfig``, whatever is in it."""

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


# What is read


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
def test_the_texts_are_read_and_of_several_urls_the_first(
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
def test_what_is_no_text_counts_as_not_given(file: Path, content: str) -> None:
    file.write_text(f"{content}\nca: b\n")

    assert read_vesconfig(file) == {"ca": "b"}


def test_a_file_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert read_vesconfig(tmp_path / "missing") == {}
    assert read_vesconfig(tmp_path / "missing" / ".vesconfig") == {}


# What cannot be used


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
def test_what_is_not_yaml_is_refused_with_its_path_and_not_told(file: Path, content: bytes) -> None:
    file.write_bytes(content.replace(b"X", PLANTED.encode()))

    with pytest.raises(UserError, match="not YAML") as raised:
        read_vesconfig(file)

    assert str(file) in str(raised.value)
    assert PLANTED not in "".join(traceback.format_exception(raised.value))


def test_a_folder_or_what_cannot_be_read_is_refused_with_its_path(tmp_path: Path) -> None:
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
def test_a_tag_makes_no_object_and_runs_nothing(file: Path, content: str) -> None:
    made = file.with_name("made")
    file.write_text(content.replace("X", str(made)))

    assert read_vesconfig(file) == {}
    assert not made.exists()


@pytest.mark.parametrize("text", ["7", "2020-99-99", "true", "null", "0x", "!!int x", "!!bool x"])
def test_what_looks_like_something_else_is_text(file: Path, text: str) -> None:
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
def test_any_file_holds_texts_or_is_a_user_error(file: Path, content: bytes) -> None:
    file.write_bytes(content)

    try:
        found = read_vesconfig(file)
    except UserError:
        return
    assert all(isinstance(key, str) and text for key, text in found.items())


# Without the package


def test_without_its_package_a_file_is_refused_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert read_vesconfig(file) == {}

    file.write_text("server-urls: https://a.example")

    with pytest.raises(UserError) as raised:
        read_vesconfig(file)
    assert str(file) in str(raised.value)
    assert "-m pip install pyyaml" in str(raised.value)
