"""Profiles on disk: their names and folder, and how one is written and removed."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from invoicefs.credentials import profiles
from invoicefs.credentials.profile_files import remove_profile, write_profile
from invoicefs.credentials.profiles import (
    Profile,
    default_mount_point,
    find_profile,
    parse_profile_name,
    profile_file,
    profile_names,
)
from invoicefs.errors import UsageError, UserError

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")
pytestmark = pytest.mark.usefixtures("no_variables")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The folder of profiles, which does not exist yet."""
    (tmp_path / "home").mkdir()
    return tmp_path / "home" / ".config" / "invoicefs"


def variables(name: str = "default") -> Mapping[str, str]:
    profile = find_profile(name)
    assert profile is not None
    return profile.variables


# Names and places


@pytest.mark.parametrize("name", ["default", "a", "0", "Work-2.eu_b", "a" * 64])
def test_a_valid_name_is_accepted(name: str) -> None:
    assert parse_profile_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "-x", "_x", ".x", "a/b", "a b", "a\n", "ä", "a" * 65, "a\0"]
)
def test_any_other_name_is_bad_usage(name: str) -> None:
    with pytest.raises(UsageError, match="is not the name of a profile"):
        parse_profile_name(name)


@pytest.mark.parametrize(
    ("xdg", "folder"),
    [
        (None, "HOME/.config/invoicefs"),
        ("relative", "HOME/.config/invoicefs"),
        ("/etc/xdg", "/etc/xdg/invoicefs"),
    ],
)
def test_the_folder_is_that_of_the_xdg_specification(
    monkeypatch: pytest.MonkeyPatch, config: Path, xdg: str | None, folder: str
) -> None:
    if xdg:
        monkeypatch.setenv("XDG_CONFIG_HOME", xdg)

    home = str(config.parents[1])
    assert profile_file("x") == Path(folder.replace("HOME", home)) / "x.env"


@NEEDS_ROOT
def test_root_has_a_home_at_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then HOME is not set; a line of fstab may name a profile."""
    monkeypatch.delenv("HOME")

    assert profile_file("x") == Path("/root/.config/invoicefs/x.env")


def test_without_a_home_there_are_no_profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "configured_home", lambda: None)

    assert (find_profile("x"), profile_names()) == (None, ())
    with pytest.raises(UserError, match="HOME"):
        write_profile("x", (), {"INVOICEFS_URL": "u"})


def test_all_profiles_are_listed_by_name(config: Path) -> None:
    assert profile_names() == ()
    for name in ("work", "default"):
        write_profile(name, (), {})
    for other in ("-x.env", ".work.env", "work.txt", ".env", "x y.env"):
        (config / other).write_text("")

    assert profile_names() == ("default", "work")


@pytest.mark.parametrize(
    ("text", "mount_point"),
    [("/a/b", "/a/b"), ("~/b", "HOME/b"), (None, None), ("b", "error"), ("~user/b", "error")],
)
def test_a_mount_point_is_absolute_or_in_the_home(
    config: Path, text: str | None, mount_point: str | None
) -> None:
    home = config.parents[1]
    profile = Profile("x", Path("/x"), {"INVOICEFS_MOUNTPOINT": text} if text else {})

    if mount_point == "error":
        with pytest.raises(UsageError, match="INVOICEFS_MOUNTPOINT in /x"):
            _ = profile.mount_point
    else:
        expected = Path(mount_point.replace("HOME", str(home))) if mount_point else None
        assert profile.mount_point == expected
    assert default_mount_point("x") == home / "x"


# Reading


def test_only_our_variables_that_are_not_empty_are_read(config: Path) -> None:
    config.mkdir(parents=True)
    (config / "x.env").write_text("INVOICEFS_A=b\nHTTPS_PROXY=p\nINVOICEFS_C=\n")

    assert variables("x") == {"INVOICEFS_A": "b"}


@pytest.mark.parametrize("content", [b"INVOICEFS_TOKEN='secret", b"secret", b"secret\xff"])
def test_an_invalid_profile_is_an_error_without_its_content(config: Path, content: bytes) -> None:
    config.mkdir(parents=True)
    (config / "x.env").write_bytes(content)

    with pytest.raises(UserError, match=str(config / "x.env")) as raised:
        find_profile("x")
    assert "secret" not in str(raised.value)


def test_a_folder_in_place_of_a_profile_is_an_error(config: Path) -> None:
    (config / "x.env").mkdir(parents=True)

    with pytest.raises(UserError, match="not a regular file"):
        find_profile("x")


# Writing


@pytest.mark.promise(
    "`invoicefs login` checks the URL and the credential with one request, and saves them in a "
    "profile that only you can read; a credential that is refused is not saved."
)
def test_only_the_user_can_read_a_profile_and_its_folders(config: Path) -> None:
    old = os.umask(0)
    try:
        write_profile("x", (), {"INVOICEFS_TOKEN": "t"})
    finally:
        os.umask(old)

    modes = [path.stat().st_mode & 0o777 for path in (config.parent, config, config / "x.env")]
    assert modes == [0o700, 0o700, 0o600]
    assert os.listdir(config) == ["x.env"]


def test_other_lines_are_kept_and_the_mode_is_corrected(config: Path) -> None:
    write_profile("x", (), {"INVOICEFS_TOKEN": "t", "INVOICEFS_URL": "u"})
    file = config / "x.env"
    file.write_text(f"# mine\n{file.read_text()}INVOICEFS_NAMESPACE=system\n")
    file.chmod(0o644)

    write_profile("x", ["INVOICEFS_TOKEN"], {"INVOICEFS_P12": "/a b"})

    assert file.read_text() == (
        "# mine\nINVOICEFS_P12='/a b'\nINVOICEFS_URL=u\nINVOICEFS_NAMESPACE=system\n"
    )
    assert file.stat().st_mode & 0o777 == 0o600


def fail(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.promise("A failed `invoicefs login` leaves the old profile as it was.")
@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_profile_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, config: Path, function: str
) -> None:
    write_profile("x", (), {"INVOICEFS_TOKEN": "old"})
    monkeypatch.setattr(os, function, fail)

    with pytest.raises(UserError, match=r"x\.env cannot be written: No space left") as raised:
        write_profile("x", (), {"INVOICEFS_TOKEN": "secret"})

    assert variables("x") == {"INVOICEFS_TOKEN": "old"}
    assert os.listdir(config) == ["x.env"]
    assert "secret" not in str(raised.value)


def test_an_invalid_profile_is_not_overwritten(config: Path) -> None:
    config.mkdir(mode=0o700, parents=True)
    (config / "x.env").write_text("not an assignment")

    with pytest.raises(UserError, match="Line 1"):
        write_profile("x", (), {"INVOICEFS_TOKEN": "t"})
    assert (config / "x.env").read_text() == "not an assignment"


@pytest.mark.parametrize("target", ["elsewhere.env", "missing"])
def test_a_link_is_neither_followed_nor_replaced(config: Path, target: str) -> None:
    write_profile("elsewhere", (), {"INVOICEFS_TOKEN": "old"})
    (config / "x.env").symlink_to(target)

    with pytest.raises(UserError, match="symbolic link"):
        write_profile("x", (), {})
    with pytest.raises(UserError, match="symbolic link"):
        remove_profile("x")
    assert (config / "x.env").is_symlink()
    assert variables("elsewhere") == {"INVOICEFS_TOKEN": "old"}


def test_a_folder_that_others_can_change_is_not_used(config: Path) -> None:
    config.mkdir(parents=True)
    config.chmod(0o777)

    with pytest.raises(UserError, match=f"{config} cannot be used"):
        write_profile("x", (), {"INVOICEFS_TOKEN": "t"})
    assert os.listdir(config) == []


def test_a_name_that_is_not_utf8_cannot_be_kept(config: Path) -> None:
    with pytest.raises(UserError, match="UTF-8"):
        write_profile("x", (), {"INVOICEFS_P12": os.fsdecode(b"/\xff")})
    assert os.listdir(config) == []


# Removing


def test_a_removed_profile_is_gone(config: Path) -> None:
    write_profile("x", (), {"INVOICEFS_TOKEN": "t"})

    remove_profile("x")

    assert os.listdir(config) == []
    with pytest.raises(UserError, match="There is no profile x"):
        remove_profile("x")


def test_an_invalid_profile_can_be_removed(config: Path) -> None:
    config.mkdir(parents=True)
    (config / "x.env").write_text("not an assignment")

    remove_profile("x")

    assert os.listdir(config) == []
