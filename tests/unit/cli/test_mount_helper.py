"""``mount.invoicefs``, as mount(8) calls it: the same mount, and the exit codes of mount(8)."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from invoicefs.errors import InvoicefsError, UsageError
from invoicefs.settings import Settings
from tests.support.cli_stage import (
    DOMAIN_ERRORS,
    FLAGS,
    GENERIC_OPTIONS,
    KEYS_WITH_VALUE,
    TENANT,
    Ended,
    Mounted,
    Run,
    raising,
    token_of,
)

REPOSITORY = Path(__file__).parents[3]
IS_MOUNTED, BAD_USAGE, SYSTEM, INTERRUPTED, FAILED = 0, 1, 2, 8, 32  # see mount(8)
HTTP = "http://gateway.example:8080"

Mount = Callable[..., Mounted]
Refuse = Callable[..., str]
Fail = Callable[[BaseException], Ended]

pytestmark = pytest.mark.usefixtures("no_variables", "logged")


@pytest.fixture
def mount(run_helper: Run, mounted: list[Mounted], monkeypatch: pytest.MonkeyPatch) -> Mount:
    """Run the helper to its end; what the mount was made of."""

    def mount(*arguments: str) -> Mounted:
        monkeypatch.setenv("INVOICEFS_TOKEN", "t")
        ended = run_helper(*arguments)
        assert (ended.code, ended.is_quiet) == (IS_MOUNTED, True)
        return mounted[-1]

    return mount


@pytest.fixture
def refuse(run_helper: Run, mounted: list[Mounted], monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Run the helper to its bad end, before anything was mounted; what it says."""

    def refuse(*arguments: str) -> str:
        monkeypatch.setenv("INVOICEFS_TOKEN", "t")
        sentence = said_at_the_end(run_helper(*arguments), BAD_USAGE)
        assert not mounted
        return sentence

    return refuse


def said_at_the_end(ended: Ended, code: int) -> str:
    """The one sentence of a run that failed."""
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


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        (["-o", "list_ttl=5m"], {"list_ttl_s": 300.0}),
        (["-olist_ttl=5m,umask=027"], {"list_ttl_s": 300.0, "umask": 0o027}),
        (["-o", "rw,allow_other,_netdev"], {"allow_other": True}),
        (["-o", "namespace=b", "-o", "namespace=a"], {"namespaces": ("b", "a")}),
        (["-o", 'cache_dir="/a,b"'], {"cache_dir": Path("/a,b")}),
        (["-o", ",".join(GENERIC_OPTIONS)], {}),
        (["-o", ""], {}),
        (["-n", "-r", "-w", "-t", "invoicefs"], {}),
        (["-s", "-o", "vers=3,xattr"], {"xattr": True}),
    ],
)
@pytest.mark.parametrize("operands_first", [True, False])
def test_a_list_sets_its_fields_and_no_others(
    mount: Mount, arguments: list[str], fields: dict[str, Any], operands_first: bool
) -> None:
    operands = [TENANT, "/mnt"]
    called = [*operands, *arguments] if operands_first else [*arguments, *operands]

    assert mount(*called).settings == Settings(TENANT, **fields)


def test_variables_of_a_shell_are_not_for_fstab_but_those_of_credentials(
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
        (["-nv"], 1),
        (["-vv"], 2),
        (["-v", "-v"], 2),
        (["-o", "verbose"], 1),
        (["-o", "verbose,verbose"], 2),
    ],
)
def test_the_log_says_more_where_the_call_is_verbose(
    mount: Mount, logged: list[dict[str, object]], arguments: list[str], verbosity: int
) -> None:
    mount(*arguments, TENANT, "/mnt")

    assert [each["verbosity"] for each in logged] == [verbosity]


@pytest.mark.parametrize("flag", FLAGS)
def test_each_flag_of_the_command_has_its_key(mount: Mount, flag: str) -> None:
    assert mount(TENANT, "/mnt", "-o", flag).settings.url == TENANT


@pytest.mark.parametrize("key", KEYS_WITH_VALUE)
def test_each_option_of_the_command_has_its_key(refuse: Refuse, key: str) -> None:
    assert f"{key} needs a value" in refuse(TENANT, "/mnt", "-o", key)


@pytest.mark.parametrize(
    "source",
    [
        TENANT,
        f"{TENANT}/",
        f"{TENANT}/api",
        "acme.console.ves.volterra.io",
        "Acme.Console.Ves.Volterra.IO/web/home?tab=1#top",
        f"{TENANT}/api/web/namespaces/system/usage/invoices/custom_list?limit=5",
    ],
)
def test_every_pasted_url_is_mounted_under_the_very_words_of_fstab(
    mount: Mount, source: str
) -> None:
    call = mount(source, "/mnt")

    assert (call.settings.url, call.source) == (TENANT, source)


def test_the_source_wins_over_a_url_among_the_options(mount: Mount) -> None:
    call = mount(TENANT, "/mnt", "-o", "url=https://other.example")

    assert (call.settings.url, call.source) == (TENANT, TENANT)


def test_a_relative_mount_point_is_seen_from_the_folder_of_the_call(
    mount: Mount, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)

    assert mount(TENANT, "my invoices").path == str(tmp_path / "my invoices")


def test_a_fake_mount_mounts_nothing(
    run_helper: Run, mounted: list[Mounted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVOICEFS_TOKEN", "t")

    assert run_helper("-f", TENANT, "/mnt", "-o", "rw,xattr") == Ended(IS_MOUNTED, "", "")
    assert not mounted


# Bad usage


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "URL and a mount point"),
        ([TENANT], "URL and a mount point"),
        ([TENANT, "/mnt", "/other"], "URL and a mount point"),
        ([TENANT, "/mnt", "-x"], "-x"),
        ([TENANT, "/mnt", "-x\ny"], "-x y"),
        ([TENANT, "/mnt", "--list-ttl=5m"], "--list-ttl"),
        ([TENANT, "/mnt", "--help"], "--help"),
        ([TENANT, "/mnt", "-o"], "-o"),
        ([TENANT, "/mnt", "-o", "no_such_option"], "no_such_option"),
        ([TENANT, "/mnt", "-o", "rw,help"], "help"),
        ([TENANT, "/mnt", "-o", "mount_options=rw"], "mount_options"),
        (["-f", TENANT, "/mnt", "-o", "no_such_option=5"], "no_such_option"),
        (["-f", TENANT, "/mnt", "-o", "list_ttl=soon"], "--list-ttl"),
        (["-f", "nonsense", "/mnt"], "the source"),
        ([TENANT, "/mnt", "-o", "list_ttl=soon"], "--list-ttl"),
        ([TENANT, "/mnt", "-o", "umask=9"], "--umask"),
        ([TENANT, "/mnt", "-o", "fetch=later"], "--fetch"),
        ([TENANT, "/mnt", "-o", "timeout=1s,max_wait=2s"], "--max-wait"),
        ([TENANT, "/mnt", "-o", "namespace=Not_A_Label"], "--namespace"),
        ([TENANT, "/mnt", "-s", "-o", "list_ttl=soon,vers=3"], "--list-ttl"),
    ],
)
def test_bad_usage_ends_with_1_and_names_what_is_wrong(
    refuse: Refuse, arguments: list[str], named: str
) -> None:
    assert named in refuse(*arguments)


@pytest.mark.parametrize("secret", ["token", "password", "p12_password"])
def test_no_list_holds_a_secret(refuse: Refuse, secret: str) -> None:
    sentence = refuse(TENANT, "/mnt", "-o", f"{secret}=hush")

    assert repr(secret) in sentence
    assert "hush" not in sentence


@pytest.mark.parametrize(
    "source", ["none", "acme", "/dev/sda1", "https://", "ftp://a.example", "https://u:w@a.example"]
)
def test_a_source_that_is_no_url_is_bad_usage(refuse: Refuse, source: str) -> None:
    assert "the source: " in refuse(source, "/mnt")


@pytest.mark.parametrize("flag", [flag for flag in FLAGS if flag != "insecure_http"])
def test_only_one_flag_allows_http_to_another_machine(
    mount: Mount, refuse: Refuse, flag: str
) -> None:
    assert "insecure" in refuse(HTTP, "/mnt", "-o", flag)
    assert mount(HTTP, "/mnt", "-o", f"{flag},insecure_http").settings.url == HTTP


# Failures


@pytest.fixture
def fail(run_helper: Run, monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Run the helper to its end where the mount fails."""

    def fail(error: BaseException) -> Ended:
        monkeypatch.setattr("invoicefs.mount.lifecycle.mount", raising(error))
        monkeypatch.setenv("INVOICEFS_TOKEN", "t")
        return run_helper(TENANT, "/mnt")

    return fail


@pytest.mark.parametrize("error", DOMAIN_ERRORS)
def test_every_exception_of_the_domain_ends_in_its_one_sentence(
    fail: Fail, error: type[InvoicefsError]
) -> None:
    ended = fail(error("This is wrong: mend it."))

    code = BAD_USAGE if issubclass(error, UsageError) else FAILED
    assert said_at_the_end(ended, code) == "mount.invoicefs: This is wrong: mend it."


@pytest.mark.parametrize(
    "error", [PermissionError(1, "Not permitted"), OSError(28, "No space"), OSError("No words")]
)
def test_what_the_system_refuses_ends_with_2(fail: Fail, error: OSError) -> None:
    assert (error.strerror or str(error)) in said_at_the_end(fail(error), SYSTEM)


@pytest.mark.parametrize("interrupt", [click.Abort(), KeyboardInterrupt()])
def test_an_interrupted_mount_ends_with_8(fail: Fail, interrupt: BaseException) -> None:
    ended = fail(interrupt)

    assert (ended.code, ended.out) == (INTERRUPTED, "")
    assert ended.err.strip() == "mount.invoicefs: Interrupted."  # below the ^C of the terminal


def test_without_credentials_the_mount_fails_and_says_how_to_give_some(
    run_helper: Run, mounted: list[Mounted]
) -> None:
    sentence = said_at_the_end(run_helper(TENANT, "/mnt"), FAILED)

    assert "INVOICEFS_TOKEN" in sentence
    assert not mounted


# What the kernel can pass: any bytes but NUL.
words = st.one_of(
    st.binary(max_size=20).map(os.fsdecode),
    st.sampled_from(["-o", "-s", "-f", "-t", "rw,xattr", "-onamespace=a", TENANT, "/mnt"]),
    st.builds("-o{}={}".format, st.sampled_from(KEYS_WITH_VALUE), st.text()),
).filter(lambda text: "\0" not in text)


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(words, max_size=4).flatmap(lambda each: st.permutations([TENANT, "/mnt", *each])))
def test_any_words_mount_or_end_in_one_sentence(
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
        said_at_the_end(ended, FAILED if ended.code == FAILED else BAD_USAGE)


def test_the_process_ends_with_the_exit_code_of_mount(tmp_path: Path) -> None:
    program = "from invoicefs.cli import main_of_mount_helper as main; main()"
    result = subprocess.run(
        [sys.executable, "-c", program, TENANT, str(tmp_path), "-o", "rw,no_such_option"],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

    ended = Ended(result.returncode, result.stdout, result.stderr)
    assert "no_such_option" in said_at_the_end(ended, BAD_USAGE)
