"""A machine with systemd that is thrown away: ``scripts/test --systemd`` boots it."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from invoicefs.sandbox import Sandbox
from tests.mount.conftest import sandbox  # noqa: F401 - a fixture, which pytest finds by its name
from tests.mount.support.mounts import CHECKOUT
from tests.mount.support.programs import missing
from tests.systemd.account import Account
from tests.systemd.profile import Profile

_NUMBERS = count(1)


@pytest.fixture(scope="session", autouse=True)
def _machine() -> None:
    """Skip these tests on any other machine: they add users and services."""
    if Path("/invoicefs") != CHECKOUT or not Path("/run/systemd/container").exists():
        missing("these tests run on the machine that scripts/test --systemd boots")


@pytest.fixture(scope="session")
def account(_machine: None) -> Account:
    """A user who has installed invoicefs."""
    account = Account("alice")
    account.install()
    return account


@pytest.fixture
def new_profile(account: Account, sandbox: Sandbox) -> Iterator[Callable[..., Profile]]:  # noqa: F811
    """Return a function that writes a profile with these variables, besides URL and token."""
    profiles = []

    def new(**variables: str) -> Profile:
        credential = {"INVOICEFS_URL": sandbox.url, "INVOICEFS_TOKEN": sandbox.token}
        name = f"acme-{next(_NUMBERS)}.test"
        profiles.append(Profile(account, name, {**credential, **variables}))
        return profiles[-1]

    yield new
    for profile in profiles:
        profile.close()


@pytest.fixture
def archive(account: Account) -> Path:
    """An empty folder of the user for an archive."""
    return account.new_folder(f"my archive {next(_NUMBERS)}")
