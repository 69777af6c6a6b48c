"""Options that come from a profile, and the mount point that it names."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from invoicefs.cli.login_attempts import Login
from invoicefs.cli.mount import mount
from invoicefs.credentials.load import Credentials
from invoicefs.credentials.profile_files import write_profile
from invoicefs.credentials.sources import CredentialSource
from invoicefs.settings import Fetch, Settings
from tests.support.cli_stage import TENANT, Mounted, Run, token_of

pytestmark = pytest.mark.usefixtures("no_variables", "logged")

Write = Callable[..., Path]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def write(home: Path) -> Write:
    """Return a function that writes a profile with URL, token and settings."""

    def write(name: str = "default", **settings: str) -> Path:
        variables = {f"INVOICEFS_{key.upper()}": text for key, text in settings.items()}
        write_profile(name, (), {"INVOICEFS_URL": TENANT, "INVOICEFS_TOKEN": name, **variables})
        return home / ".config" / "invoicefs" / f"{name}.env"

    return write


@pytest.mark.promise(
    "A profile sets the options that neither the command line nor the environment gives, and a "
    "misspelt variable in it is reported."
)
@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({"namespace": "b a"}, {"namespaces": ("b", "a")}),
        ({"status": "paid STATUS_ISSUED"}, {"statuses": frozenset({"paid", "issued"})}),
        ({"cache_dir": "/a/cache"}, {"cache_dir": Path("/a/cache")}),
        ({"fetch": "on-stat"}, {"fetch": Fetch.ON_STAT}),
        ({"list_ttl": "5m", "parallel": "3"}, {"list_ttl_s": 300.0, "parallel": 3}),
        ({"umask": "027", "uid": "5"}, {"umask": 0o027, "uid": 5}),
        ({"allow_other": "1", "xattr": "false"}, {"allow_other": True}),
        ({"parallel": ""}, {}),
    ],
)
@pytest.mark.parametrize("name", ["default", "work"])
def test_a_profile_sets_options(
    run: Run,
    mounted: list[Mounted],
    write: Write,
    name: str,
    settings: Mapping[str, str],
    fields: Mapping[str, Any],
) -> None:
    write(name, **settings)

    ended = run("mount", *([] if name == "default" else ["--profile", name]), "/mnt")

    assert (ended.code, ended.is_quiet) == (0, True)
    assert mounted[0].settings == Settings(TENANT, **fields)
    assert token_of(mounted[0]) == name


@pytest.mark.usefixtures("mounted")
def test_a_profile_sets_the_log(run: Run, write: Write, logged: list[dict[str, object]]) -> None:
    write(log_file="/a/log", verbose="2", quiet="1")

    assert run("mount", "/mnt").code == 0
    assert logged == [
        {"is_foreground": False, "log_file": Path("/a/log"), "verbosity": 2, "is_quiet": True}
    ]


@pytest.mark.promise(
    "A profile sets the options that neither the command line nor the environment gives, and a "
    "misspelt variable in it is reported."
)
def test_options_and_variables_win_over_a_profile(
    run: Run, mounted: list[Mounted], write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("work", parallel="3", namespace="a", list_ttl="5m", timeout="10s")
    monkeypatch.setenv("INVOICEFS_PROFILE", "work")
    monkeypatch.setenv("INVOICEFS_PARALLEL", "8")

    assert run("mount", "--namespace", "b", "-o", "list_ttl=60s", "/mnt").code == 0
    assert mounted[0].settings == Settings(TENANT, namespaces=("b",), timeout_s=10.0)


def test_a_default_profile_that_is_not_used_sets_nothing(
    run: Run, mounted: list[Mounted], write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(parallel="3", mountpoint="~/elsewhere", unknown="x")
    monkeypatch.setenv("INVOICEFS_URL", TENANT)
    monkeypatch.setenv("INVOICEFS_TOKEN", "t")

    ended = run("mount", "/mnt")
    assert (ended.code, ended.is_quiet) == (0, True)
    assert mounted[0].settings == Settings(TENANT)

    monkeypatch.setenv("INVOICEFS_TOKEN", "t")
    assert run("mount").code == 2


def test_an_invalid_value_is_bad_usage_that_names_the_file(run: Run, write: Write) -> None:
    file = write(list_ttl="soon")

    ended = run("mount", "/mnt")

    assert ended.code == 2
    assert f"INVOICEFS_LIST_TTL in {file}: " in ended.sentence


@pytest.mark.promise(
    "A profile sets the options that neither the command line nor the environment gives, and a "
    "misspelt variable in it is reported."
)
def test_a_variable_without_meaning_is_one_warning(
    run: Run, mounted: list[Mounted], write: Write
) -> None:
    """Otherwise a misspelt namespace shows everything without a word."""
    file = write(namspace="system", foreground="1", archive="/a", insecure_http="0")

    ended = run("mount", "/mnt")

    assert ended.code == 0
    assert [line.split(" because")[0] for line in ended.err.splitlines()] == [
        f"invoicefs: INVOICEFS_{name} in {file} is ignored," for name in ("FOREGROUND", "NAMSPACE")
    ]
    assert not mounted[0].is_foreground


def test_the_names_of_profiles_are_completed(write: Write) -> None:
    for name in ("work", "world", "default"):
        write(name)
    (option,) = (param for param in mount.params if param.name == "profile")

    with click.Context(mount) as context:
        completed = option.shell_complete(context, "wo")

    assert [item.value for item in completed] == ["work", "world"]


@pytest.mark.usefixtures("home")
def test_a_login_to_an_unencrypted_url_permits_its_mount(
    run: Run, mounted: list[Mounted], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://gateway.example:8080"
    source, credentials = CredentialSource(), Credentials("a test's")
    found = Login(url, source, credentials, "t", 1)
    monkeypatch.setattr("invoicefs.cli.login_attempts.log_in", lambda *_, **__: found)

    assert run("login", "--url", url, "--insecure-http").code == 0
    assert run("mount", "/mnt").code == 0
    assert mounted[0].settings.url == url
    assert token_of(mounted[0]) == "t"


# The mount point


@pytest.mark.parametrize(
    ("settings", "arguments", "folder"),
    [
        ({"mountpoint": "~/a b/c"}, [], "a b/c"),
        ({"mountpoint": "~/a"}, ["--profile", "default"], "a"),
        ({}, ["--profile", "default"], "default"),
        ({"mountpoint": "~/a"}, ["b"], "b"),
        ({}, ["b"], "b"),
    ],
)
def test_a_missing_mount_point_is_created_if_a_profile_is_used(
    run: Run,
    mounted: list[Mounted],
    write: Write,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: Mapping[str, str],
    arguments: list[str],
    folder: str,
) -> None:
    write(**settings)
    monkeypatch.chdir(home)

    assert run("mount", *arguments).code == 0
    assert mounted[0].path == str(home / folder)
    assert sorted(os.listdir(home)) == [".config", Path(folder).parts[0]]
    assert (home / folder).is_dir()


def test_without_a_profile_a_mount_point_is_not_created(
    run: Run, home: Path, mounted: list[Mounted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVOICEFS_TOKEN", "t")

    assert run("mount", "--url", TENANT, str(home / "x")).code == 0
    assert mounted
    assert not (home / "x").exists()


def test_without_any_mount_point_it_is_bad_usage(
    run: Run, mounted: list[Mounted], write: Write
) -> None:
    write()

    ended = run("mount")

    assert (ended.code, ended.out) == (2, "")
    assert "MOUNTPOINT" in ended.sentence
    assert not mounted


def test_a_mount_point_that_cannot_be_created_is_an_error(
    run: Run, mounted: list[Mounted], write: Write
) -> None:
    write(mountpoint="/proc/none/x")

    ended = run("mount")

    assert ended.code == 1
    assert ended.sentence.startswith("invoicefs: The mount point /proc/none/x cannot be created: ")
    assert not mounted


# fstab


def test_a_line_of_fstab_can_name_a_profile(
    run_helper: Run, mounted: list[Mounted], write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("work", parallel="3", mountpoint="~/elsewhere")
    monkeypatch.setenv("INVOICEFS_PROFILE", "other")

    ended = run_helper(TENANT, "/mnt", "-o", "rw,profile=work")

    assert (ended.code, ended.err) == (0, "")
    assert (mounted[0].path, token_of(mounted[0])) == ("/mnt", "work")
    assert mounted[0].settings == Settings(TENANT, parallel=3)


def test_a_missing_profile_in_fstab_is_one_sentence(run_helper: Run, home: Path) -> None:
    ended = run_helper(TENANT, "/mnt", "-o", "profile=work")

    assert ended.code == 32
    assert "There is no profile work" in ended.sentence
    assert str(home) in ended.sentence
