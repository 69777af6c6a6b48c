"""What is installed: the wheel, the source distribution, the Debian package and its machines."""

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.mount.conftest import sandbox  # noqa: F401 - a fixture, which pytest finds by its name
from tests.mount.support.mounts import CHECKOUT
from tests.mount.support.programs import missing, run
from tests.packages.machine import Machine, booted

BUILD_LIMIT_S = 300.0  # pip downloads the build backend

SUITES = ("bookworm", "trixie")  # Debian 12 and 13


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("distributions")
    build = (sys.executable, "-m", "build", "--outdir", folder, CHECKOUT)
    run(*build, timeout_s=BUILD_LIMIT_S).good()
    return folder


@pytest.fixture(scope="session")
def sdist(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution."""
    (path,) = distributions.glob("*.tar.gz")
    folder = tmp_path_factory.mktemp("sdist")
    run("tar", "--extract", "--file", path, "--directory", folder).good()
    (unpacked,) = folder.iterdir()
    return unpacked


@pytest.fixture(scope="session")
def debian_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package, built from the checkout."""
    folder = tmp_path_factory.mktemp("debian")
    run(CHECKOUT / "scripts" / "build-deb", folder, timeout_s=BUILD_LIMIT_S).good()
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="session", params=SUITES)
def machine(request: pytest.FixtureRequest, debian_package: Path) -> Iterator[Machine]:
    """A machine with the package, and a user."""
    with boot(request.param, debian_package) as machine:
        machine.install()
        machine.add_user()
        yield machine


@pytest.fixture(params=SUITES)
def new_machine(request: pytest.FixtureRequest, debian_package: Path) -> Iterator[Machine]:
    """A machine without the package, for one test, which may change anything."""
    with boot(request.param, debian_package) as machine:
        yield machine


def boot(suite: str, package: Path) -> AbstractContextManager[Machine]:
    """Boot a machine that has the folder of the package as ``/packages``."""
    if os.geteuid() != 0:
        missing("only root can boot a machine")
    return booted(suite, package)
