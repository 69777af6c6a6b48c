"""API tokens: what is accepted and how one is replaced."""

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from invoicefs.credentials.tokens import FixedToken, TokenFile
from invoicefs.errors import UserError

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
in_one_folder = settings(
    unhurried,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

GOOD_TOKENS = pytest.mark.parametrize(
    "token", ["t", "abcDEF0123456789", "a+b/c==", "a.b-c_d~e", "{}\"'\\$`;", "x" * 4096]
)
BAD_TOKENS = pytest.mark.parametrize(
    "token",
    [
        "",
        " ",
        "\n\n",
        "two words",
        "two\twords",
        "two\nlines",
        "two\r\nlines",
        "bell\x07bell",
        "nul\x00nul",
        "escape\x1b[0m",
        "delete\x7fdelete",
        "schlüssel",
        "no-break\xa0space",
        "zero\u200bwidth",
        "\ufeffbyte-order-mark",
    ],
)


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("first\n")
    return path


def rename_over(path: Path, content: str | bytes) -> None:
    """Replace a file as careful tools do: write a new file and rename it."""
    replacement = path.with_name("replacement")
    replacement.write_bytes(content.encode() if isinstance(content, str) else content)
    replacement.replace(path)


def write_in_place(path: Path, text: str) -> None:
    """Replace a file as an editor or a shell does: in place, with a later mtime."""
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))


ROTATIONS = pytest.mark.parametrize("rotate", [rename_over, write_in_place])


# Accepted tokens


@GOOD_TOKENS
@pytest.mark.parametrize("blanks", ["", "\n", "\r\n", " \t\n\n"])
def test_whitespace_around_a_token_is_stripped(tmp_path: Path, token: str, blanks: str) -> None:
    path = tmp_path / "token"
    path.write_bytes((blanks + token + blanks).encode())

    assert TokenFile.of_file(path).token() == token
    assert FixedToken(blanks + token + blanks, "the test").token() == token


@BAD_TOKENS
def test_text_that_no_http_header_can_carry_is_refused(tmp_path: Path, token: str) -> None:
    path = tmp_path / "token"
    path.write_text(token, encoding="utf-8")

    with pytest.raises(UserError, match="the test"):
        FixedToken(token, "the test")
    with pytest.raises(UserError, match=str(path)):
        TokenFile.of_file(path)


contents = st.one_of(
    st.binary(max_size=40),
    st.text(st.characters(), max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.from_regex(rb"\s?[!-~]{0,20}\s?", fullmatch=True),
)


@in_one_folder
@given(contents)
def test_any_file_yields_a_printable_ascii_token_or_user_error(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)

    try:
        token = TokenFile.of_file(path).token()
    except UserError:
        return
    assert re.fullmatch("[!-~]+", token)
    assert token == content.decode().strip()


# Replacing the token


@ROTATIONS
def test_a_rotated_token_is_used_for_the_next_request(
    token_file: Path, rotate: Callable[[Path, str], None]
) -> None:
    credential = TokenFile.of_file(token_file)
    assert credential.token() == "first"

    rotate(token_file, "other\n")  # of the same length
    assert credential.token() == "other"

    rotate(token_file, "third-one")
    assert credential.token() == "third-one"


@ROTATIONS
def test_a_refused_token_counts_as_replaced_once_the_file_changes(
    token_file: Path, rotate: Callable[[Path, str], None]
) -> None:
    credential = TokenFile.of_file(token_file)
    assert not credential.was_replaced("first")

    rotate(token_file, "other\n")

    assert credential.was_replaced("first")
    assert not credential.was_replaced("other")
    assert credential.token() == "other"


def test_a_replacement_with_unchanged_metadata_is_found_on_refusal(
    token_file: Path,
) -> None:
    credential = TokenFile.of_file(token_file)
    before = token_file.stat()
    token_file.write_text("other\n")
    os.utime(token_file, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert credential.was_replaced("first")
    assert credential.token() == "other"


def test_a_token_reloaded_by_another_request_counts_as_replaced(
    token_file: Path,
) -> None:
    credential = TokenFile.of_file(token_file)
    used = credential.token()
    rename_over(token_file, "other")
    assert credential.token() == "other"

    assert credential.was_replaced(used)


def test_rewriting_the_same_token_replaces_nothing(token_file: Path) -> None:
    credential = TokenFile.of_file(token_file)
    rename_over(token_file, " first ")

    assert not credential.was_replaced("first")


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garble(path: Path) -> None:
    path.write_bytes(b"\xff\xfe not a token")


def turn_into_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [remove, empty, garble, turn_into_a_folder])
def test_the_last_token_is_used_while_the_file_is_unusable(
    token_file: Path, damage: Callable[[Path], None]
) -> None:
    credential = TokenFile.of_file(token_file)
    damage(token_file)

    assert [credential.token(), credential.token()] == ["first", "first"]
    assert not credential.was_replaced("first")
    assert credential.was_replaced("an older one")

    if token_file.is_dir():
        token_file.rmdir()
    rename_over(token_file, "other")
    assert credential.token() == "other"


def test_the_token_file_is_found_from_another_working_directory(
    monkeypatch: pytest.MonkeyPatch, token_file: Path
) -> None:
    monkeypatch.chdir(token_file.parent)
    credential = TokenFile.of_file(Path(token_file.name))
    monkeypatch.chdir("/")

    rename_over(token_file, "other")

    assert credential.token() == "other"


def test_an_unchanged_file_is_read_once(monkeypatch: pytest.MonkeyPatch, token_file: Path) -> None:
    credential = TokenFile.of_file(token_file)
    monkeypatch.setattr(Path, "read_text", no_reading)
    monkeypatch.setattr(Path, "read_bytes", no_reading)
    monkeypatch.setattr(Path, "open", no_reading)

    assert credential.token() == "first"


def no_reading(*_: object, **__: object) -> str:
    raise AssertionError("the file is read again")


@ROTATIONS
def test_every_thread_gets_a_whole_token_while_the_file_is_rotated(
    token_file: Path, rotate: Callable[[Path, str], None]
) -> None:
    rotated = [f"token-{number}" for number in range(30)]
    credential = TokenFile.of_file(token_file)
    seen: set[str] = set()
    failures: list[BaseException] = []
    ended = threading.Event()

    def read() -> None:
        try:
            while not ended.is_set():
                seen.add(credential.token())
                credential.was_replaced("first")
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for token in rotated:
        rotate(token_file, token)
    ended.set()
    for reader in readers:
        reader.join()

    assert not failures
    if rotate is rename_over:
        assert seen <= {"first", *rotated}
    assert credential.token() == rotated[-1]


def test_a_fixed_token_is_never_replaced() -> None:
    credential = FixedToken("first", "the test")

    assert credential.token() == "first"
    assert not credential.was_replaced("first")
    assert credential.was_replaced("other")
