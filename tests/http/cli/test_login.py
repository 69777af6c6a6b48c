"""``invoicefs login`` and ``logout`` against the embedded server."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

import invoicefs
from invoicefs.credentials.env_files import parse_assignments
from invoicefs.sandbox import SAMPLE_TOKEN, Behaviour, Endpoint, Fault, Sandbox, Sent, faults
from tests.support.certificates import Authority, Identity
from tests.support.terminal import CTRL_C, CTRL_D, Typed, typed

COMMAND = (sys.executable, "-m", "invoicefs", "login")
PASSWORD = 'it\'s $5 "only" \\ '


class Ended(NamedTuple):
    """The exit status and the output of a command."""

    code: int
    out: str
    err: str


class Home:
    """The home folder of a user who logs in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / ".config" / "invoicefs"
        self.variables = {
            "HOME": str(folder),
            "PYTHONPATH": str(Path(invoicefs.__file__).parents[1]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, *arguments: str | Path, text: str | None = None, **variables: str) -> Ended:
        """Run a command without a terminal; `text` is piped to it."""
        result = subprocess.run(
            [sys.executable, "-m", "invoicefs", *arguments],
            env={"PATH": os.environ["PATH"], **self.variables, **variables},
            cwd=self.folder,
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
            **({"input": text} if text is not None else {"stdin": subprocess.DEVNULL}),
        )
        return Ended(result.returncode, result.stdout, result.stderr)

    def typed(self, *arguments: str | Path, answers: Sequence[tuple[str, str]]) -> Typed:
        """Log in on a terminal."""
        return typed(*COMMAND, *arguments, env=self.variables, answers=answers)

    def kept(self, name: str = "default") -> Mapping[str, str]:
        """Return the variables in a profile, without ``INVOICEFS_``; empty if there is none."""
        file = self.config / f"{name}.env"
        text = file.read_text() if file.exists() else ""
        return {
            item.name.removeprefix("INVOICEFS_"): item.value
            for item in parse_assignments(text, "the profile")
        }


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def url_then_token(url: str, token: str) -> list[tuple[str, str]]:
    return [("URL of the tenant", f"{url}\n"), ("API token: ", f"{token}\n")]


# On a terminal


@pytest.mark.promise(
    "`invoicefs login` checks the URL and the credential with one request, and saves them in a "
    "profile that only you can read; a credential that is refused is not saved."
)
def test_url_and_token_are_typed_tried_and_kept(sandbox: Sandbox, home: Home) -> None:
    ended = home.typed(answers=url_then_token(f" {sandbox.url}/api/ ", f"  {SAMPLE_TOKEN} "))

    assert ended.code == 0
    assert home.kept() == {"URL": sandbox.url, "TOKEN": SAMPLE_TOKEN}
    assert ended.screen.splitlines()[-2:] == [
        f"Logged in to {sandbox.url} (2 namespaces).",
        "Now: invoicefs mount ~/invoices",
    ]
    assert SAMPLE_TOKEN not in ended.screen
    (call,) = sandbox.calls
    assert call.endpoint is Endpoint.NAMESPACES
    # The response of an HTTP cache would not show whether the token is valid now.
    assert call.headers["cache-control"] == "no-cache"


def test_what_is_wrong_can_be_typed_again(sandbox: Sandbox, home: Home) -> None:
    answers = [
        ("URL of the tenant: ", "console.ves.volterra.io\n"),
        *url_then_token(sandbox.url, "secret-but-wrong"),
        *url_then_token("", SAMPLE_TOKEN),  # the URL is suggested
    ]
    ended = home.typed(answers=answers)

    assert ended.code == 0
    assert "names no tenant" in ended.screen
    assert "does not accept the token" in ended.screen
    assert f"URL of the tenant [{sandbox.url}]" in ended.screen
    assert home.kept()["TOKEN"] == SAMPLE_TOKEN
    assert "secret" not in ended.screen


def test_after_three_attempts_nothing_is_kept(sandbox: Sandbox, home: Home) -> None:
    answers = [("API token: ", f"{word}\n") for word in ("wrong", "<html> a page", "wrong")]

    ended = home.typed("--url", sandbox.url, answers=answers)

    assert ended.code == 1
    assert "is not an API token" in ended.screen
    assert not home.config.exists()
    assert sandbox.count() == 2


def test_nothing_is_asked_again_if_the_api_fails(sandbox: Sandbox, home: Home) -> None:
    sandbox.inject(Fault(faults.status(503)))

    ended = home.typed("--url", sandbox.url, answers=[("API token: ", f"{SAMPLE_TOKEN}\n")])

    assert ended.code == 1
    assert "try again later" in ended.screen
    assert (home.config.exists(), sandbox.count()) == (False, 1)


@pytest.mark.parametrize("key", [CTRL_C, CTRL_D])
@pytest.mark.parametrize("prompt", ["URL of the tenant: ", "API token: "])
def test_ctrl_c_and_ctrl_d_keep_nothing(
    sandbox: Sandbox, home: Home, prompt: str, key: str
) -> None:
    options = ["--url", sandbox.url] if prompt == "API token: " else []

    ended = home.typed(*options, answers=[(prompt, key)])

    assert ended.code == 1
    assert "Traceback" not in ended.screen
    assert not home.config.exists()


def test_the_password_of_a_bundle_is_typed_and_kept(
    home: Home, lenient_server: Sandbox, client: Identity, authority: Authority
) -> None:
    bundle = client.p12(PASSWORD)
    trusted = ["--ca-bundle", str(authority.certificate)]
    options = ["--url", lenient_server.url, "--p12", str(bundle), *trusted]

    ended = home.typed(*options, answers=[("p12: ", "wrong\n"), ("p12: ", f"{PASSWORD}\n")])

    assert ended.code == 0
    assert home.kept() == {
        "URL": lenient_server.url,
        "P12": str(bundle),
        "P12_PASSWORD": PASSWORD,
        "CA_BUNDLE": str(authority.certificate),
    }
    assert PASSWORD not in ended.screen


# Without a terminal


def test_a_token_is_read_from_a_pipe(sandbox: Sandbox, home: Home) -> None:
    ended = home.run("login", "--profile", "work", "--url", sandbox.url, text=f" {SAMPLE_TOKEN}\n")

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.endswith("Now: invoicefs mount --profile work\n")
    assert home.kept("work") == {"URL": sandbox.url, "TOKEN": SAMPLE_TOKEN}
    assert SAMPLE_TOKEN not in ended.out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<!DOCTYPE html>\n<p>secret</p>\n", "is not an API token"),
        ("", "no API token"),
        ("secret" * 20_000, "too long"),
        ("secr\u00e9t", "is not an API token"),
    ],
)
def test_anything_else_in_the_pipe_is_refused(
    sandbox: Sandbox, home: Home, text: str, words: str
) -> None:
    ended = home.run("login", "--url", sandbox.url, text=text)

    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert words in ended.err
    assert "secr" not in ended.err
    assert not home.config.exists()
    assert sandbox.count() == 0


@pytest.mark.parametrize("options", [[], ["--url", "https://a.example"]])
def test_without_terminal_and_pipe_one_sentence_names_the_options(
    home: Home, options: list[str]
) -> None:
    ended = home.run("login", *options)

    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    for word in ("--url", "--token-file", "--p12"):
        assert word in ended.err


def test_files_are_kept_by_their_absolute_names(sandbox: Sandbox, home: Home) -> None:
    (home.folder / "my token").write_text(SAMPLE_TOKEN)
    folders = ["--mount-point", "a b", "--archive", "/srv/archive"]

    ended = home.run("login", "--url", sandbox.url, "--token-file", "my token", *folders)

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.endswith("Now: invoicefs mount\n")
    assert home.kept() == {
        "URL": sandbox.url,
        "TOKEN_FILE": str(home.folder / "my token"),
        "MOUNTPOINT": str(home.folder / "a b"),
        "ARCHIVE": "/srv/archive",
    }


@pytest.mark.parametrize(
    "variables",
    [
        {"INVOICEFS_URL": "https://other.example", "INVOICEFS_TOKEN": "other"},
        {"INVOICEFS_PROFILE": "other", "INVOICEFS_NAMESPACE": "other"},
    ],
)
def test_variables_are_not_kept_but_the_hint_regards_them(
    sandbox: Sandbox, home: Home, variables: Mapping[str, str]
) -> None:
    ended = home.run("login", "--url", sandbox.url, text=SAMPLE_TOKEN, **variables)

    assert ended.code == 0
    assert ended.out.endswith("Now: invoicefs mount --profile default ~/invoices\n")
    assert home.kept() == {"URL": sandbox.url, "TOKEN": SAMPLE_TOKEN}


# What the server answers


@pytest.mark.promise(
    "`invoicefs login` checks the URL and the credential with one request, and saves them in a "
    "profile that only you can read; a credential that is refused is not saved."
)
@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (faults.status(401), "does not accept"),
        (faults.status(429), "cannot be used now"),
        (faults.status(500), "cannot be used now"),
        (faults.status(503), "cannot be used now"),
        (faults.status(404), "Check the URL"),
        (faults.html(), "Check the URL"),
        (faults.redirect("https://elsewhere.invalid/"), "Check the URL"),
        (faults.cut(Sent.NOTHING), "Check the URL"),
    ],
)
def test_a_login_that_fails_keeps_nothing(
    sandbox: Sandbox, home: Home, behaviour: Behaviour, words: str
) -> None:
    assert home.run("login", "--url", sandbox.url, text=SAMPLE_TOKEN).code == 0
    sandbox.inject(Fault(behaviour))

    ended = home.run("login", "--url", sandbox.url, text="n3w-t0ken")

    assert (ended.code, ended.out) == (1, "")
    assert words in ended.err.splitlines()[-1]
    assert "n3w-t0ken" not in ended.err
    assert home.kept() == {"URL": sandbox.url, "TOKEN": SAMPLE_TOKEN}


def test_a_credential_that_may_not_list_is_kept(sandbox: Sandbox, home: Home) -> None:
    sandbox.inject(Fault(faults.status(403)))

    ended = home.run("login", "--url", sandbox.url, text=SAMPLE_TOKEN)

    assert ended.code == 0
    assert "may not list namespaces" in ended.out
    assert home.kept()["TOKEN"] == SAMPLE_TOKEN


def test_a_403_that_is_not_from_the_api_keeps_nothing(sandbox: Sandbox, home: Home) -> None:
    """A proxy or a portal that refuses everybody says nothing about the token."""
    sandbox.inject(Fault(faults.html(403)))

    ended = home.run("login", "--url", sandbox.url, text="anything")

    assert (ended.code, "Nothing was saved" in ended.err) == (1, True)


def test_no_request_is_made_for_bad_usage(sandbox: Sandbox, home: Home) -> None:
    for options in (["--token-file", "a", "--cert", "b"], ["--key", "k"], ["--profile", "../x"]):
        assert home.run("login", "--url", sandbox.url, *options, text=SAMPLE_TOKEN).code == 2
    variables = {"INVOICEFS_INSECURE_HTTP": "1"}  # login takes options only
    ended = home.run("login", "--url", "http://a.example", text=SAMPLE_TOKEN, **variables)
    assert ended.code == 2
    assert sandbox.count() == 0


# Again


def test_logging_in_again_keeps_settings_and_replaces_the_credential(
    home: Home, lenient_server: Sandbox, client: Identity, authority: Authority
) -> None:
    url = lenient_server.url
    options = ["--url", url, "--ca-bundle", str(authority.certificate)]
    pem = ["--cert", str(client.pem())]
    assert home.run("login", *options, *pem, "--mount-point", "x").code == 0
    file = home.config / "default.env"
    file.write_text(f"# mine\n{file.read_text()}INVOICEFS_NAMESPACE=system\n")

    ended = home.run("login", text=SAMPLE_TOKEN)

    assert (ended.code, ended.err) == (0, "")
    assert file.read_text().startswith("# mine\n")
    assert home.kept() == {
        "URL": url,
        "TOKEN": SAMPLE_TOKEN,
        "CA_BUNDLE": str(authority.certificate),  # the same host needs it again
        "MOUNTPOINT": str(home.folder / "x"),
        "NAMESPACE": "system",
    }


def test_a_failing_write_keeps_the_old_profile(sandbox: Sandbox, home: Home) -> None:
    home.config.mkdir(parents=True, mode=0o700)
    (home.config / "default.env").symlink_to("elsewhere")

    ended = home.run("login", "--url", sandbox.url, text=SAMPLE_TOKEN)

    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "symbolic link" in ended.err
    assert os.listdir(home.config) == ["default.env"]


# Logout


def test_logout_removes_the_profile(sandbox: Sandbox, home: Home) -> None:
    assert home.run("login", "--url", sandbox.url, text=SAMPLE_TOKEN).code == 0
    sandbox.forget_calls()

    ended = home.run("logout")
    assert (ended.code, ended.err) == (0, "")
    assert os.listdir(home.config) == []
    assert sandbox.count() == 0

    ended = home.run("logout")
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert "There is no profile default" in ended.err
