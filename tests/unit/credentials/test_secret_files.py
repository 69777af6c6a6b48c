"""Files that hold a secret: what is read of them, and who else could read it."""

import os
import secrets
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from invoicefs.credentials.secret_files import (
    SECRET_BYTES,
    is_open_to_others,
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


# What is read


@pytest.mark.parametrize("text", ["", "secret", " a  b \n\n", "schlüssel", "\ufeffmark"])
def test_the_text_is_read_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secret"
    path.write_text(text, encoding="utf-8")

    assert read_secret(path, "the file") == text


def test_what_is_no_file_is_refused_by_its_name_and_not_waited_for(tmp_path: Path) -> None:
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


def test_what_is_no_text_is_refused_and_not_told(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(PLANTED.encode() + b"\xff")

    with pytest.raises(UserError, match=r"^The token file X is not a text file\.$") as raised:
        read_secret(path, "the token file X")

    assert PLANTED not in "".join(traceback.format_exception(raised.value))


# Who else can read it


@pytest.mark.parametrize(
    ("mode", "folder_mode", "is_open"),
    [
        (0o644, 0o755, True),
        (0o604, 0o701, True),
        (0o600, 0o755, False),
        (0o640, 0o755, False),
        (0o602, 0o755, True),  # who can change it can have another one used
        (0o620, 0o755, True),
        (0o644, 0o700, False),
        (0o644, 0o754, False),  # its name can be read, but the folder not entered
    ],
)
def test_a_file_is_open_where_others_may_read_or_change_it_and_enter_its_folder(
    public: Path, mode: int, folder_mode: int, is_open: bool
) -> None:
    path = secret_file(public / "folder", mode)
    path.parent.chmod(folder_mode)

    assert is_open_to_others(path) is is_open


def test_a_private_folder_anywhere_above_closes_a_file(
    monkeypatch: pytest.MonkeyPatch, public: Path
) -> None:
    path = secret_file(public / "folder")
    monkeypatch.chdir(path.parent)
    assert is_open_to_others(path)
    assert is_open_to_others(Path("secret"))

    public.chmod(0o700)

    assert not is_open_to_others(path)
    assert not is_open_to_others(Path("secret"))


def test_a_link_is_as_open_as_the_file_it_leads_to(public: Path) -> None:
    (public / "link").symlink_to(secret_file(public / "folder"))
    assert is_open_to_others(public / "link")

    (public / "folder").chmod(0o700)
    assert not is_open_to_others(public / "link")


def test_what_is_not_there_is_open_to_nobody(public: Path) -> None:
    assert not is_open_to_others(public / "missing")


def test_a_link_that_leads_in_a_circle_is_open_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")

    assert not is_open_to_others(tmp_path / "loop")


@pytest.mark.parametrize("size_bytes", [SECRET_BYTES + 1, 2**40])
def test_what_is_too_large_for_a_secret_is_refused_unread(tmp_path: Path, size_bytes: int) -> None:
    """A token file of 3 GiB took 6 GB of memory."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(size_bytes)

    with pytest.raises(UserError, match="is larger than 64 KiB"):
        read_file(path, "the file X")


def test_a_device_that_never_ends_is_refused_unread() -> None:
    with pytest.raises(UserError, match="is not a regular file"):
        read_file(Path("/dev/zero"), "the file X")


def test_the_largest_secret_is_read(tmp_path: Path) -> None:
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
