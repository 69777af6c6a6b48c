"""The command line: options and variables in, settings or one sentence and an exit code out."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import invoicefs
from invoicefs import cli
from invoicefs.cli.mount import mount as mount_command
from invoicefs.cli.options import OptionOrVariable
from invoicefs.errors import InvoicefsError, UsageError, UserError
from invoicefs.settings import Fetch, Settings
from invoicefs.units import GIB, KIB
from tests.support.certificates import make_certificate
from tests.support.cli_stage import (
    DOMAIN_ERRORS,
    FLAGS,
    KEYS_WITH_VALUE,
    TENANT,
    Ended,
    Mounted,
    Run,
    raising,
    token_of,
)
from tests.support.share_files import commands

REPOSITORY = Path(__file__).parents[3]
HTTP = "http://gateway.example:8080"
A_YEAR_S = 365 * 86_400.0

pytestmark = pytest.mark.usefixtures("no_variables")


@pytest.fixture
def mount(
    run: Run,
    mounted: list[Mounted],
    logged: list[dict[str, object]],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Mounted]:
    """Return a function that runs ``invoicefs mount`` and returns what it would have mounted."""

    def mount(*options: str) -> Mounted:
        monkeypatch.setenv("INVOICEFS_TOKEN", "t")
        ended = run("mount", *options, "/mnt")
        assert (ended.code, ended.is_quiet) == (0, True)
        assert len(logged) == len(mounted)
        return mounted[-1]

    return mount


def run_process(*arguments: str, **variables: str) -> Ended:
    """Run ``python -m invoicefs`` in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-m", "invoicefs", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return Ended(result.returncode, result.stdout, result.stderr)


# Help


def test_version_prints_the_version_of_the_package(run: Run) -> None:
    ended = run("--version")

    assert run("-V") == ended
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.strip() == f"invoicefs, version {invoicefs.__version__}"


def test_the_help_names_the_commands(run: Run) -> None:
    ended = run("--help")

    assert (ended.code, ended.err) == (0, "")
    assert {"mount", "umount", "demo", "status", "refresh"} <= set(ended.out.split())
    assert run("-h").out == ended.out


def test_help_of_mount_names_every_option_and_its_variable(run: Run) -> None:
    ended = run("mount", "--help")

    assert ended.code == 0
    words = set(ended.out.replace(",", " ").replace(";", " ").replace("]", " ").split())
    for option in mount_command.params:
        if isinstance(option, click.Option) and option.name != "mount_options":
            name = option.opts[-1].removeprefix("--")
            assert option.envvar == f"INVOICEFS_{name.replace('-', '_').upper()}"
            assert {f"--{name}", option.envvar} <= words
    text = " ".join(ended.out.split())
    assert "--fetch [on-open|on-stat]" in text
    assert "INVOICEFS_FETCH; default: on-open]" in text


@pytest.mark.parametrize("command", cli.cli.commands)
def test_every_command_has_help(run: Run, command: str) -> None:
    ended = run(command, "--help")

    assert ended.code == 0
    assert ended.out.startswith(f"Usage: invoicefs {command} ")


def commands_below(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from commands_below(command)
        else:
            yield command


@pytest.mark.parametrize(
    "command", tuple(commands_below(cli.cli)), ids=lambda command: command.name
)
def test_help_of_every_command_ends_with_valid_examples(
    command: click.Command,
) -> None:
    _, *lines = (command.epilog or "").split("Examples:")[-1].splitlines()

    assert lines
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "invoicefs"
        rest = words[words.index(str(command.name)) + 1 :]
        with click.Context(command) as context:
            command.make_parser(context).parse_args(rest)


# Bad usage


def check_bad_usage(ended: Ended, *words: str) -> None:
    assert ended.code == 2
    assert ended.out == ""
    assert "Traceback" not in ended.err
    assert ended.sentence.startswith(("Error: ", "invoicefs: "))
    assert ended.err.count("Error: ") + ended.err.count("invoicefs: ") == 1
    for word in words:
        assert word in ended.sentence


@pytest.mark.parametrize(
    "arguments",
    [
        ["mount"],
        ["mount", "--url", TENANT],
        ["mount", "--url", TENANT, "/mnt", "/other"],
        ["mount", "--url"],
        ["mount", "--url", TENANT, "--no-such-option", "/mnt"],
        ["mount", "--token", "secret", "--url", TENANT, "/mnt"],
        ["mount", "--password=secret", "--url", TENANT, "/mnt"],
        ["mount", "--p12-password", "secret", "--url", TENANT, "/mnt"],
        ["mount", "--url", TENANT, "/mnt", "-o"],
        ["umount"],
        ["unmount", "/mnt"],
        ["--no-such-option"],
    ],
)
def test_bad_usage_exits_with_2(run: Run, mounted: list[Mounted], arguments: list[str]) -> None:
    ended = run(*arguments)

    check_bad_usage(ended)
    assert "secret" not in ended.err
    assert not mounted


MALFORMED = [
    ("--url", "acme"),
    ("--url", ""),
    ("--namespace", "Not_A_Label"),
    ("--status", "?"),
    ("--cache-size", "huge"),
    ("--fetch", "later"),
    ("--fetch", "ON_STAT"),
    ("--parallel", "0"),
    ("--parallel", "eight"),
    ("--parallel", "1.5"),
    ("--read-ahead", "-1"),
    ("--read-ahead", "1001"),
    ("--timeout", "soon"),
    ("--max-wait", "1x"),
    ("--list-ttl", "1 minute"),
    ("--active-ttl", "5min"),
    ("--max-pdf-size", "16MiBs"),
    ("--uid", "no such user"),
    ("--uid", "-1"),
    ("--uid", str(2**32 - 1)),
    ("--gid", "1.0"),
    ("--gid", "-1"),
    ("--umask", "9"),
    ("--umask", "-22"),
]


@pytest.mark.parametrize(("option", "value"), MALFORMED)
def test_a_malformed_value_exits_with_2_and_names_the_option(
    run: Run, mounted: list[Mounted], option: str, value: str
) -> None:
    url = [] if option == "--url" else ["--url", TENANT]

    check_bad_usage(run("mount", *url, f"{option}={value}", "/mnt"), option)

    assert not mounted


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("INVOICEFS_ALLOW_OTHER", "perhaps"),
        ("INVOICEFS_XATTR", "perhaps"),
        ("INVOICEFS_FOREGROUND", "perhaps"),
        ("INVOICEFS_INSECURE_HTTP", "perhaps"),
    ],
)
def test_a_malformed_variable_exits_with_2(
    run: Run, mounted: list[Mounted], monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv("INVOICEFS_URL", TENANT)
    monkeypatch.setenv(variable, value)

    option = variable.removeprefix("INVOICEFS_").lower().replace("_", "-")
    named = variable if variable == "INVOICEFS_URL" else f"--{option}"
    check_bad_usage(run("mount", "/mnt"), named)

    assert not mounted


# The kernel can pass any bytes but NUL.
arguments = st.one_of(
    st.binary(max_size=20).map(os.fsdecode),
    st.from_regex(r"-?\d{0,25}(\.\d{0,3})?(ms|s|m|h|k|MiB|g)?", fullmatch=True),
    st.sampled_from(["nan", "inf", "1e9", "on-open", "on-stat", "paid", "\u0663", "9" * 5000]),
).filter(lambda text: "\0" not in text)


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.sampled_from(sorted({option for option, _ in MALFORMED})), arguments, st.booleans())
@example("--gid", str(10**30), False)
@example("--cache-size", str(2**63), False)
@example("--timeout", "9" * 400, False)
@example("--url", "", True)
@example("--url", "acme", True)
@pytest.mark.usefixtures("logged")
def test_any_text_for_an_option_is_bad_usage_or_a_value_in_range(
    run: Run,
    mounted: list[Mounted],
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    text: str,
    is_variable: bool,
) -> None:
    mounted.clear()
    url = [] if option == "--url" else ["--url", TENANT]
    words = [] if is_variable else [f"{option}={text}"]
    variable = "INVOICEFS_" + option.removeprefix("--").replace("-", "_").upper()
    with monkeypatch.context() as patch:
        patch.setenv("INVOICEFS_TOKEN", "t")
        if is_variable:
            patch.setenv(variable, text)
        ended = run("mount", *url, *words, "/mnt")

    if not mounted:
        # An empty variable is one that is not set.
        check_bad_usage(ended, variable if is_variable and option == "--url" and text else option)
        return
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    check_ranges(mounted[0].settings)


def check_ranges(made: Settings) -> None:
    assert max(made.cache_size_bytes, made.max_pdf_size_bytes) < 2**63
    assert 0 <= min(made.uid, made.gid) <= max(made.uid, made.gid) < 2**32 - 1  # see chown(2)
    assert made.parallel <= 1000  # the connection pool is allocated up front
    for seconds in (made.timeout_s, made.max_wait_s, made.list_ttl_s, made.active_ttl_s):
        assert 0.0 <= seconds <= A_YEAR_S


# Failures


def check_failure(ended: Ended, *words: str) -> None:
    assert ended.code == 1
    assert ended.out == ""
    assert ended.err.startswith("invoicefs: ")
    assert ended.err.count("\n") == 1
    for word in words:
        assert word in ended.err


@pytest.mark.usefixtures("logged")
@pytest.mark.parametrize("error", DOMAIN_ERRORS)
def test_every_domain_error_ends_in_one_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: type[InvoicefsError]
) -> None:
    failure = raising(error("This is wrong: fix it."))
    monkeypatch.setattr("invoicefs.mount.lifecycle.mount", failure)
    monkeypatch.setenv("INVOICEFS_TOKEN", "t")

    ended = run("mount", "--url", TENANT, "/mnt")

    assert (ended.code, ended.out) == (2 if issubclass(error, UsageError) else 1, "")
    assert ended.err == "invoicefs: This is wrong: fix it.\n"


@pytest.mark.usefixtures("logged")
@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_a_system_error_or_an_interrupt_exits_with_1(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr("invoicefs.mount.lifecycle.mount", raising(error))
    monkeypatch.setenv("INVOICEFS_TOKEN", "t")

    ended = run("mount", "--url", TENANT, "/mnt")

    assert (ended.code, ended.out) == (1, "")
    assert ended.err.strip().count("\n") == 0


# Options become settings


def as_list(options: list[str]) -> list[str]:
    """Return the same options as one ``-o`` list, see mount(8)."""
    pieces: list[str] = []
    for word in options:
        if word.startswith("--"):
            pieces.append(word[2:].replace("-", "_"))
        else:
            pieces[-1] += f"={word}"
    return ["-o", ",".join(pieces)]


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ([], {}),
        (["--namespace", "system"], {"namespaces": ("system",)}),
        (["--namespace", "b", "--namespace", "a"], {"namespaces": ("b", "a")}),
        (["--status", "paid", "--status", "OVERDUE"], {"statuses": frozenset({"paid", "overdue"})}),
        (["--cache-dir", "/a/cache"], {"cache_dir": Path("/a/cache")}),
        (["--cache-size", "2GiB"], {"cache_size_bytes": 2 * GIB}),
        (["--fetch", "on-stat"], {"fetch": Fetch.ON_STAT}),
        (["--fetch", "on-open"], {"fetch": Fetch.ON_OPEN}),
        (["--parallel", "1"], {"parallel": 1}),
        (["--read-ahead", "0"], {"read_ahead": 0}),
        (["--timeout", "2m"], {"timeout_s": 120.0}),
        (["--timeout", "5"], {"timeout_s": 5.0}),
        (["--max-wait", "0"], {"max_wait_s": 0.0}),
        (["--timeout", "1s", "--max-wait", "500ms"], {"timeout_s": 1.0, "max_wait_s": 0.5}),
        (["--list-ttl", "0"], {"list_ttl_s": 0.0}),
        (["--active-ttl", "1h"], {"active_ttl_s": 3600.0}),
        (["--max-pdf-size", "512k"], {"max_pdf_size_bytes": 512 * KIB}),
        (["--uid", "0", "--gid", "4"], {"uid": 0, "gid": 4}),
        (["--uid", "daemon", "--gid", "daemon"], {"uid": 1, "gid": 1}),
        (["--umask", "027"], {"umask": 0o027}),
        (["--allow-other"], {"allow_other": True}),
        (["--xattr"], {"xattr": True}),
    ],
)
def test_an_option_sets_its_field_and_no_other(
    mount: Callable[..., Mounted], options: list[str], fields: dict[str, Any]
) -> None:
    assert mount("--url", TENANT, *options).settings == Settings(TENANT, **fields)


@pytest.mark.parametrize(
    ("variables", "fields"),
    [
        ({}, {}),
        ({"INVOICEFS_NAMESPACE": "b a"}, {"namespaces": ("b", "a")}),
        ({"INVOICEFS_STATUS": "STATUS_PAID issued"}, {"statuses": frozenset({"paid", "issued"})}),
        ({"INVOICEFS_ALLOW_OTHER": "1"}, {"allow_other": True}),
        ({"INVOICEFS_ALLOW_OTHER": "0"}, {"allow_other": False}),
        ({"INVOICEFS_PARALLEL": "", "INVOICEFS_UID": ""}, {}),
    ],
)
def test_a_variable_sets_its_field_and_no_other(
    mount: Callable[..., Mounted],
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    fields: dict[str, Any],
) -> None:
    for variable, value in {"INVOICEFS_URL": TENANT, **variables}.items():
        monkeypatch.setenv(variable, value)

    assert mount().settings == Settings(TENANT, **fields)


def test_every_option_with_a_variable_reads_it_in_the_same_way() -> None:
    """A flag of click 8.2.0 and 8.2.1 itself is turned on by any value, even by 0."""
    for _, command in commands():
        for param in command.params:
            assert not param.envvar or isinstance(param, OptionOrVariable)


def test_a_pasted_url_is_normalised_once(mount: Callable[..., Mounted]) -> None:
    pasted = "acme.console.ves.volterra.io/web/home"

    call = mount("--url", pasted)

    assert (call.settings.url, call.source) == (TENANT, TENANT)


def test_relative_paths_are_resolved_against_the_working_folder(
    run: Run,
    mounted: list[Mounted],
    logged: list[dict[str, object]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("t")
    options = ["--cache-dir", "cache", "--log-file", "log", "--token-file", "token"]

    ended = run("mount", "--url", TENANT, *options, "invoices")

    assert (ended.code, ended.out, ended.err) == (0, "", "")
    (call,) = mounted
    assert call.path == str(tmp_path / "invoices")
    assert call.settings.cache_dir == tmp_path / "cache"
    assert logged[0]["log_file"] == tmp_path / "log"
    monkeypatch.chdir("/")
    assert token_of(call) == "t"


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ([], {}),
        (["--foreground"], {"is_foreground": True}),
        (["-v"], {"verbosity": 1}),
        (["-vv"], {"verbosity": 2}),
        (["-q"], {"is_quiet": True}),
    ],
)
def test_foreground_and_verbosity_configure_the_log(
    mount: Callable[..., Mounted],
    logged: list[dict[str, object]],
    options: list[str],
    changed: dict[str, object],
) -> None:
    call = mount("--url", TENANT, *options)

    defaults = {"is_foreground": False, "log_file": None, "verbosity": 0, "is_quiet": False}
    expected = {**defaults, **changed}
    assert call.is_foreground is expected["is_foreground"]
    assert logged == [expected]


@pytest.mark.promise("`invoicefs mount` prints nothing if it succeeds, apart from warnings.")
def test_a_warning_from_the_mount_is_one_line_on_stderr(
    mount: Callable[..., Mounted], capsys: pytest.CaptureFixture[str]
) -> None:
    mount("--url", TENANT).warn("Something works only in part.")

    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "invoicefs: Something works only in part.\n")


# -o lists, see mount(8)


@pytest.mark.parametrize("flag", FLAGS)
def test_every_flag_can_be_given_in_an_o_list(mount: Callable[..., Mounted], flag: str) -> None:
    assert mount("-o", f"{flag},url={TENANT}").settings.url == TENANT


@pytest.mark.parametrize("key", KEYS_WITH_VALUE)
def test_every_option_with_a_value_can_be_given_in_an_o_list(
    run: Run, mounted: list[Mounted], key: str
) -> None:
    check_bad_usage(run("mount", "--url", TENANT, "-o", key, "/mnt"), f"{key} needs a value")

    assert not mounted


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        (["-o", "list_ttl=5m", "-o", "allow_other"], {"list_ttl_s": 300.0, "allow_other": True}),
        (["-oparallel=3,parallel=4"], {"parallel": 4}),
        (["-o", "namespace=b", "-o", "namespace=a"], {"namespaces": ("b", "a")}),
        (["--parallel", "5", "-o", "parallel=3"], {"parallel": 5}),
        (["-o", "parallel=3", "--parallel=5", "-o", "parallel=4"], {"parallel": 5}),
        (["--namespace", "b", "-o", "namespace=a"], {"namespaces": ("b",)}),
        (["-o", "namespace=a", "--namespace", "b"], {"namespaces": ("b",)}),
    ],
)
def test_o_lists_add_up_and_long_options_win_over_them(
    mount: Callable[..., Mounted], options: list[str], fields: dict[str, Any]
) -> None:
    assert mount("--url", TENANT, *options).settings == Settings(TENANT, **fields)


def test_an_o_list_wins_over_variables(
    mount: Callable[..., Mounted], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("of-the-list")
    monkeypatch.setenv("INVOICEFS_URL", "nonsense")
    monkeypatch.setenv("INVOICEFS_TOKEN_FILE", str(tmp_path / "missing"))
    monkeypatch.setenv("INVOICEFS_PARALLEL", "3")
    monkeypatch.setenv("INVOICEFS_NAMESPACE", "shared")
    monkeypatch.setenv("INVOICEFS_ALLOW_OTHER", "0")

    call = mount(
        "-o", f"url={TENANT},token_file={tmp_path}/token,parallel=4,namespace=system,allow_other"
    )

    assert call.settings == Settings(TENANT, namespaces=("system",), parallel=4, allow_other=True)
    assert token_of(call) == "of-the-list"


# Unencrypted connections


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        (["--insecure-http"], {}),
        (["-o", "insecure_http"], {}),
        ([], {"INVOICEFS_INSECURE_HTTP": "1"}),
    ],
)
def test_http_to_another_machine_can_be_allowed(
    mount: Callable[..., Mounted],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    variables: dict[str, str],
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)

    assert mount("--url", HTTP, *options).settings.url == HTTP


@pytest.mark.usefixtures("logged")
@pytest.mark.parametrize("flag", [flag for flag in FLAGS if flag != "insecure_http"])
def test_no_other_flag_allows_http_to_another_machine(
    run: Run, mounted: list[Mounted], monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    monkeypatch.setenv("INVOICEFS_INSECURE_HTTP", "0")

    check_bad_usage(run("mount", "--url", HTTP, "-o", flag, "/mnt"), "--url", "--insecure-http")

    assert not mounted


# Credentials


HUSH = "hush-hush"


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one credential of every kind; every secret in it is `HUSH`."""
    folder = tmp_path_factory.mktemp("credentials")
    for name in ("token", "password"):
        (folder / name).write_text(f"{HUSH}\n")
    make_certificate(folder / "me.crt", "IP:127.0.0.1")
    command = f"openssl pkcs12 -export -in me.crt -inkey me.pem -out me.p12 -passout pass:{HUSH}"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(params=["option", "list", "variable"])
def given_as(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """Return a function that gives options in one of three ways and returns their arguments."""

    def give(**values: str) -> list[str]:
        if request.param == "variable":
            for key, value in values.items():
                monkeypatch.setenv(f"INVOICEFS_{key.upper()}", value)
            return []
        options = [[f"--{key.replace('_', '-')}", value] for key, value in values.items()]
        words = [word for option in options for word in option]
        return as_list(words) if request.param == "list" else words

    return give


@pytest.mark.usefixtures("logged")
@pytest.mark.parametrize(
    "files",
    [
        {"token_file": "token"},
        {"p12": "me.p12", "p12_password_file": "password"},
        {"cert": "me.crt", "key": "me.pem"},
    ],
)
def test_a_credential_is_used_and_logged_by_name_however_it_is_given(
    run: Run,
    mounted: list[Mounted],
    credentials: Path,
    given_as: Callable[..., list[str]],
    caplog: pytest.LogCaptureFixture,
    files: dict[str, str],
) -> None:
    caplog.set_level("INFO")
    paths = {key: str(credentials / name) for key, name in files.items()}
    options = given_as(url=TENANT, ca_bundle=str(credentials / "me.crt"), **paths)

    ended = run("mount", "-v", *options, "/mnt")

    (call,) = mounted
    assert (call.credentials.token is None) is ("token_file" not in files)
    assert (call.credentials.certificate is None) is ("token_file" in files)
    assert call.credentials.ca_bundle == credentials / "me.crt"
    (line,) = [entry.getMessage() for entry in caplog.records if entry.levelname == "INFO"]
    assert ended == Ended(0, "", f"invoicefs: {line}\n")
    assert next(iter(paths.values())) in line
    assert ("--url" if options else "INVOICEFS_URL") in line
    assert ("--" in line) is bool(options)
    assert HUSH not in line


@pytest.mark.usefixtures("logged")
def test_the_log_names_the_token_variable_but_not_the_token(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    mounted: list[Mounted],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("INVOICEFS_TOKEN", HUSH)

    ended = run("mount", "-vv", "--foreground", "--url", TENANT, "/mnt")

    assert ended == Ended(0, "", "")  # the log goes to stderr already
    assert token_of(mounted[0]) == HUSH
    assert "INVOICEFS_TOKEN" in caplog.text
    assert HUSH not in caplog.text


@pytest.mark.usefixtures("logged")
@pytest.mark.parametrize(
    ("mode", "is_open"),
    [(0o644, True), (0o604, True), (0o660, True), (0o602, True), (0o640, False)],
)
def test_a_token_file_open_to_others_causes_one_warning(
    run: Run,
    mounted: list[Mounted],
    given_as: Callable[..., list[str]],
    public: Path,
    mode: int,
    is_open: bool,
) -> None:
    file = public / "token"
    file.write_text("t")
    file.chmod(mode)

    ended = run("mount", "--url", TENANT, *given_as(token_file=str(file)), "/mnt")

    warning = f"invoicefs: Others on this machine can read or change {file}: chmod 600 {file}\n"
    assert ended == Ended(0, "", warning if is_open else "")
    assert token_of(mounted[0]) == "t"


@pytest.mark.usefixtures("logged")
def test_the_token_file_wins_over_the_variable_and_may_itself_be_a_variable(
    run: Run, mounted: list[Mounted], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("from-the-file\n")
    monkeypatch.setenv("INVOICEFS_TOKEN", "from-the-environment")
    monkeypatch.setenv("INVOICEFS_TOKEN_FILE", str(token_file))

    assert run("mount", "--url", TENANT, "/mnt").code == 0

    assert token_of(mounted[0]) == "from-the-file"
    assert "INVOICEFS_TOKEN" not in os.environ


@pytest.mark.usefixtures("logged")
def test_on_a_terminal_the_token_is_prompted_for_without_echo(
    mounted: list[Mounted], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, object]] = []

    def prompt(*_: object, **how: object) -> str:
        asked.append(how)
        return "typed"

    monkeypatch.setattr("click.prompt", prompt)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "argv", ["invoicefs", "mount", "--url", TENANT, "/mnt"])
    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == 0
    assert token_of(mounted[0]) == "typed"
    assert [how["hide_input"] for how in asked] == [True]


@pytest.mark.promise(
    "With `--allow-other` it says once that Samba, NFS and web servers need `--fetch on-stat`, "
    "unless that is given, too."
)
@pytest.mark.parametrize(
    ("options", "is_said"),
    [
        (["--allow-other"], True),
        (["-o", "allow_other"], True),
        (["--allow-other", "--fetch", "on-stat"], False),
        (["--allow-other", "--quiet"], False),
        ([], False),
    ],
)
def test_allow_other_without_on_stat_is_one_warning(
    run: Run,
    mounted: list[Mounted],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    is_said: bool,
) -> None:
    monkeypatch.setenv("INVOICEFS_TOKEN", "t")
    ended = run("mount", "--url", TENANT, *options, "/mnt")
    assert (ended.code, ended.out, len(mounted)) == (0, "", 1)
    assert ended.err.count("\n") == ended.err.count("--fetch on-stat") == int(is_said)


@pytest.mark.promise("With `--quiet` it prints no warnings, only errors.")
@pytest.mark.parametrize("way", ["option", "-o", "variable"])
def test_a_quiet_mount_prints_no_warning(
    mount: Callable[..., Mounted],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    options = {"option": ["--quiet"], "-o": ["-o", "quiet"], "variable": []}[way]
    if way == "variable":
        monkeypatch.setenv("INVOICEFS_QUIET", "1")

    mount("--url", TENANT, "-v", *options).warn("Something works only in part.")

    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


# Other commands


def test_umount_passes_an_absolute_path_and_the_lazy_flag(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[tuple[str, bool]] = []

    def unmount(path: str, *, lazy: bool) -> None:
        calls.append((path, lazy))

    monkeypatch.setattr("invoicefs.mount.mountpoint.unmount", unmount)
    monkeypatch.chdir(tmp_path)

    assert run("umount", "invoices").code == 0
    assert run("umount", "--lazy", "/mnt").code == 0
    assert calls == [(str(tmp_path / "invoices"), False), ("/mnt", True)]


@pytest.mark.promise(
    "`invoicefs umount A B` unmounts each, also after one that cannot be unmounted."
)
def test_umount_continues_after_a_failure_and_reports_each(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    unmounted: list[str] = []

    def unmount(path: str, *, lazy: bool) -> None:  # noqa: ARG001
        if "bad" in path:
            raise UserError(f"{path} is busy.")
        unmounted.append(path)

    monkeypatch.setattr("invoicefs.mount.mountpoint.unmount", unmount)

    ended = run("umount", "/bad-1", "/good-1", "/bad-2", "/good-2")

    assert (ended.code, ended.err) == (
        1,
        "invoicefs: /bad-1 is busy.\ninvoicefs: /bad-2 is busy.\n",
    )
    assert unmounted == ["/good-1", "/good-2"]


@pytest.mark.usefixtures("logged")
def test_a_user_error_in_the_demo_is_one_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_demo(*_: object, **__: object) -> None:
        raise UserError("The demo needs something.")

    monkeypatch.setattr("invoicefs.cli.demo_tour.run_demo", run_demo)

    check_failure(run("demo", "--once"), "The demo needs something.")


# In a process of its own


@pytest.mark.promise("Completion for bash, zsh and fish knows commands and options.")
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_completion_script(shell: str) -> None:
    ended = run_process(_INVOICEFS_COMPLETE=f"{shell}_source")

    assert (ended.code, ended.err) == (0, "")
    assert "_INVOICEFS_COMPLETE" in ended.out


@pytest.mark.promise("Completion for bash, zsh and fish knows commands and options.")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("mo", "mount"),
        ("cache ve", "verify"),
        ("mount --read", "--read-ahead"),
        ("mount -o invalid --read", "--read-ahead"),
    ],
)
def test_commands_and_options_are_completed(words: str, expected: str) -> None:
    count = len(words.split())
    ended = run_process(
        _INVOICEFS_COMPLETE="bash_complete", COMP_WORDS=f"invoicefs {words}", COMP_CWORD=str(count)
    )

    assert [line.rpartition(",")[2] for line in ended.out.split()] == [expected]


def test_python_m_invoicefs_runs_the_command() -> None:
    ended = run_process("--version")

    assert (ended.code, ended.err) == (0, "")
    assert invoicefs.__version__ in ended.out
