"""Files with a secret: how they are read, and whether others could read them."""

import os
import secrets
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from invoicefs.credentials.secret_files import (
    SECRET_BYTES,
    is_exposed,
    read_file,
    read_secret,
)
from invoicefs.errors import UserError

PLANTED = secrets.token_hex()


def secret_file(folder: Path, mode: int = 0o644) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "secret"
    path.write_text(PLANTED)
    path.chmod(mode)
    return path


# Reading


@pytest.mark.parametrize("text", ["", "secret", " a  b \n\n", "schlüssel", "\ufeffmark"])
def test_text_is_read_unchanged(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secret"
    path.write_text(text, encoding="utf-8")

    assert read_secret(path, "the file") == text


def test_anything_but_a_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    os.mkfifo(tmp_path / "pipe")

    for path, why in (
        (tmp_path / "missing", "cannot be read: No such file or directory"),
        (loop, "cannot be read: Too many levels of symbolic links"),
        (tmp_path, "is not a regular file"),
        (tmp_path / "pipe", "is not a regular file"),
    ):
        with pytest.raises(UserError, match=f"^The password file X {why}\\.$"):
            read_secret(path, "the password file X")


def test_binary_content_is_refused_but_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(PLANTED.encode() + b"\xff")

    with pytest.raises(UserError, match=r"^The token file X is not a text file\.$") as raised:
        read_secret(path, "the token file X")

    assert PLANTED not in "".join(traceback.format_exception(raised.value))


# Permissions


@pytest.mark.parametrize(
    ("mode", "folder_mode", "is_open"),
    [
        (0o644, 0o755, True),
        (0o604, 0o701, True),
        (0o600, 0o755, False),
        (0o640, 0o755, False),
        (0o602, 0o755, True),  # others could replace the secret
        (0o620, 0o755, True),
        (0o644, 0o700, False),
        (0o644, 0o754, False),  # the folder can be listed but not entered
    ],
)
def test_permissions_of_file_and_folder_decide_what_is_open_to_others(
    public: Path, mode: int, folder_mode: int, is_open: bool
) -> None:
    path = secret_file(public / "folder", mode)
    path.parent.chmod(folder_mode)

    assert is_exposed(path) is is_open


def test_a_private_parent_folder_protects_a_file(
    monkeypatch: pytest.MonkeyPatch, public: Path
) -> None:
    path = secret_file(public / "folder")
    monkeypatch.chdir(path.parent)
    assert is_exposed(path)
    assert is_exposed(Path("secret"))

    public.chmod(0o700)

    assert not is_exposed(path)
    assert not is_exposed(Path("secret"))


def test_a_symlink_is_as_open_as_its_target(public: Path) -> None:
    (public / "link").symlink_to(secret_file(public / "folder"))
    assert is_exposed(public / "link")

    (public / "folder").chmod(0o700)
    assert not is_exposed(public / "link")


def test_a_missing_file_is_open_to_nobody(public: Path) -> None:
    assert not is_exposed(public / "missing")


def test_a_symlink_loop_is_open_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")

    assert not is_exposed(tmp_path / "loop")


@pytest.mark.parametrize("size_bytes", [SECRET_BYTES + 1, 2**40])
def test_a_file_too_large_for_a_secret_is_refused(tmp_path: Path, size_bytes: int) -> None:
    """A token file of 3 GiB took 6 GB of memory."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(size_bytes)

    with pytest.raises(UserError, match="is larger than 64 KiB"):
        read_file(path, "the file X")


def test_a_secret_of_the_largest_size_is_read(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * SECRET_BYTES)

    assert len(read_file(tmp_path / "large", "the file X")) == SECRET_BYTES


TAKES_A_VARIABLE = """
import os
from invoicefs.credentials.secret_files import take_variable
assert take_variable("SECRET") == "first-hush", os.environ["SECRET"]
print(open("/proc/self/environ", "rb").read())
"""
HAS_IT_TWICE = """
import ctypes, os, sys
path = f"PYTHONPATH={os.environ['PYTHONPATH']}"
entries = [path, "SECRET=first-hush", "A=b", "SECRET=second-hush"]
strings = lambda texts: (ctypes.c_char_p * (len(texts) + 1))(*[text.encode() for text in texts])
program = [sys.executable, "-c", sys.argv[1]]
ctypes.CDLL(None).execve(sys.executable.encode(), strings(program), strings(entries))
"""


def test_every_copy_of_a_variable_is_overwritten() -> None:
    environment = {"PYTHONPATH": str(Path(__file__).parents[3])}
    shown = subprocess.run(
        [sys.executable, "-c", HAS_IT_TWICE, TAKES_A_VARIABLE],
        env=environment,
        capture_output=True,
        check=True,
    ).stdout

    assert b"SECRET=**********" in shown
    assert b"hush" not in shown
