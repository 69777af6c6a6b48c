"""``mount.invoicefs``, as mount(8) calls it: the same mount, and the exit codes of mount(8)."""

import os
from collections.abc import Callable

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from invoicefs.settings import Settings
from tests.support.cli_stage import (
    KEYS_WITH_VALUE,
    TENANT,
    Ended,
    Mounted,
    Run,
    raising,
    token_of,
)

IS_MOUNTED, BAD_USAGE, SYSTEM, INTERRUPTED, FAILED = 0, 1, 2, 8, 32  # see mount(8)

Mount = Callable[..., Mounted]
Refuse = Callable[..., str]
Fail = Callable[[BaseException], Ended]

pytestmark = pytest.mark.usefixtures("no_variables", "logged")


@pytest.fixture
def mount(run_helper: Run, mounted: list[Mounted], monkeypatch: pytest.MonkeyPatch) -> Mount:
    """Return a function that runs the helper and returns what it would have mounted."""

    def mount(*arguments: str) -> Mounted:
        monkeypatch.setenv("INVOICEFS_TOKEN", "t")
        ended = run_helper(*arguments)
        assert (ended.code, ended.is_quiet) == (IS_MOUNTED, True)
        return mounted[-1]

    return mount


@pytest.fixture
def refuse(run_helper: Run, mounted: list[Mounted], monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Return a function that runs the helper with bad usage and returns the error."""

    def refuse(*arguments: str) -> str:
        monkeypatch.setenv("INVOICEFS_TOKEN", "t")
        sentence = error_of(run_helper(*arguments), BAD_USAGE)
        assert not mounted
        return sentence

    return refuse


def error_of(ended: Ended, code: int) -> str:
    """Check that a run failed and return its one sentence."""
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.count("\n") == 1
    assert ended.err.startswith("mount.invoicefs: ")
    assert "Usage:" not in ended.err
    return ended.sentence


# What is mounted


def test_a_url_is_mounted_on_a_folder(mount: Mount) -> None:
    call = mount(TENANT, "/mnt")

    assert call.settings == Settings(TENANT)
    assert (call.path, call.source, call.is_foreground) == ("/mnt", TENANT, False)
    assert token_of(call) == "t"


def test_only_credential_variables_apply_to_fstab_mounts(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INVOICEFS_FOREGROUND would keep mount(8) waiting for ever."""
    monkeypatch.setenv("INVOICEFS_NAMESPACE", "shared")
    monkeypatch.setenv("INVOICEFS_PARALLEL", "3")
    monkeypatch.setenv("INVOICEFS_FOREGROUND", "1")

    call = mount(TENANT, "/mnt", "-o", "namespace=system")

    assert call.settings == Settings(TENANT, namespaces=("system",))
    assert not call.is_foreground
    assert token_of(call) == "t"


@pytest.mark.parametrize(
    ("arguments", "verbosity"),
    [
        ([], 0),
        (["-v"], 1),
        (["-vv"], 2),
    ],
)
def test_v_flags_set_the_verbosity_of_the_log(
    mount: Mount, logged: list[dict[str, object]], arguments: list[str], verbosity: int
) -> None:
    mount(*arguments, TENANT, "/mnt")

    assert [options["verbosity"] for options in logged] == [verbosity]


@pytest.mark.parametrize(
    "source",
    [
        TENANT,
        "acme.console.ves.volterra.io",
        "Acme.Console.Ves.Volterra.IO/web/home?tab=1#top",
    ],
)
def test_the_mount_source_is_the_url_as_written_in_fstab(mount: Mount, source: str) -> None:
    call = mount(source, "/mnt")

    assert (call.settings.url, call.source) == (TENANT, source)


@pytest.mark.parametrize("option", ["url=https://other.example", "foreground"])
def test_an_option_of_the_command_alone_is_refused(refuse: Refuse, option: str) -> None:
    name = option.partition("=")[0]

    assert f"-o: '{name}' is not an option here: " in refuse(TENANT, "/mnt", "-o", option)


def test_a_sloppy_mount_ignores_a_url_among_the_options(mount: Mount) -> None:
    call = mount("-s", TENANT, "/mnt", "-o", "url=https://other.example")

    assert (call.settings.url, call.source) == (TENANT, TENANT)


def test_a_fake_mount_mounts_nothing(
    run_helper: Run, mounted: list[Mounted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVOICEFS_TOKEN", "t")

    assert run_helper("-f", TENANT, "/mnt", "-o", "rw,xattr") == Ended(IS_MOUNTED, "", "")
    assert not mounted


def test_a_warning_names_the_option_as_in_fstab(
    run_helper: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVOICEFS_TOKEN", "t")
    ended = run_helper("-f", TENANT, "/mnt", "-o", "allow_other")

    assert ended.err.count("\n") == ended.err.count(" fetch=on-stat ") == 1


# Bad usage


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "URL and a mount point"),
        ([TENANT, "/mnt", "-x\ny"], "-x y"),
        ([TENANT, "/mnt", "-o", "mount_options=rw"], "mount_options"),
        (["-f", TENANT, "/mnt", "-o", "no_such_option=5"], "no_such_option"),
        (["-f", TENANT, "/mnt", "-o", "list_ttl=soon"], "--list-ttl"),
        (["-f", "nonsense", "/mnt"], "the source"),
        ([TENANT, "/mnt", "-o", "list_ttl=soon"], "--list-ttl"),
        ([TENANT, "/mnt", "-s", "-o", "list_ttl=soon,vers=3"], "--list-ttl"),
    ],
)
def test_bad_usage_exits_with_1_and_names_the_problem(
    refuse: Refuse, arguments: list[str], named: str
) -> None:
    assert named in refuse(*arguments)


# Failures


@pytest.fixture
def fail(run_helper: Run, monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Return a function that runs the helper with a mount that raises an error."""

    def fail(error: BaseException) -> Ended:
        monkeypatch.setattr("invoicefs.mount.lifecycle.mount", raising(error))
        monkeypatch.setenv("INVOICEFS_TOKEN", "t")
        return run_helper(TENANT, "/mnt")

    return fail


@pytest.mark.parametrize(
    "error", [PermissionError(1, "Not permitted"), OSError(28, "No space"), OSError("No words")]
)
def test_a_system_error_exits_with_2(fail: Fail, error: OSError) -> None:
    assert (error.strerror or str(error)) in error_of(fail(error), SYSTEM)


@pytest.mark.parametrize("interrupt", [click.Abort(), KeyboardInterrupt()])
def test_an_interrupted_mount_exits_with_8(fail: Fail, interrupt: BaseException) -> None:
    ended = fail(interrupt)

    assert (ended.code, ended.out) == (INTERRUPTED, "")
    assert ended.err.strip() == "mount.invoicefs: Interrupted."  # after the ^C of the terminal


def test_without_credentials_the_error_says_how_to_give_some(
    run_helper: Run, mounted: list[Mounted]
) -> None:
    sentence = error_of(run_helper(TENANT, "/mnt"), FAILED)

    assert "INVOICEFS_TOKEN" in sentence
    assert not mounted


# The kernel can pass any bytes but NUL.
words = st.one_of(
    st.binary(max_size=20).map(os.fsdecode),
    st.sampled_from(["-o", "-s", "-f", "-t", "rw,xattr", "-onamespace=a", TENANT, "/mnt"]),
    st.builds("-o{}={}".format, st.sampled_from(KEYS_WITH_VALUE), st.text()),
).filter(lambda text: "\0" not in text)


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(words, max_size=4).flatmap(lambda rest: st.permutations([TENANT, "/mnt", *rest])))
def test_any_arguments_mount_or_end_in_one_sentence(
    run_helper: Run, mounted: list[Mounted], monkeypatch: pytest.MonkeyPatch, called: list[str]
) -> None:
    mounted.clear()
    with monkeypatch.context() as patch:
        patch.setenv("INVOICEFS_TOKEN", "t")
        ended = run_helper(*called)

    if ended.code == IS_MOUNTED:
        assert ended.is_quiet
    else:
        assert not mounted
        error_of(ended, FAILED if ended.code == FAILED else BAD_USAGE)
