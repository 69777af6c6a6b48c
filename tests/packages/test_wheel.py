"""The wheel and the source distribution, built as an installer builds them."""

import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.mount.support.mounts import CHECKOUT
from tests.mount.support.programs import run

LIMIT_S = 900.0  # the unit tests take a minute, or many on a busy machine
SHARE = CHECKOUT / "invoicefs/share"


@pytest.fixture(scope="session")
def wheel(distributions: Path) -> Path:
    (path,) = distributions.glob("*.whl")
    return path


def tool(name: str) -> Path:
    """Return the path of a program of the group `packages`."""
    return Path(sys.executable).with_name(name)


def test_the_checkers_of_packages_find_nothing(distributions: Path, wheel: Path) -> None:
    checks = [
        run(tool("twine"), "check", "--strict", *distributions.iterdir()),
        run(tool("check-wheel-contents"), wheel),
        run(tool("validate-pyproject"), CHECKOUT / "pyproject.toml"),
    ]

    assert [check.code for check in checks] == [0, 0, 0], checks


def test_the_wheel_has_the_package_and_everything_for_share(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = archive.namelist()

    package = {name for name in names if name.startswith("invoicefs/")}
    modules = {*CHECKOUT.glob("invoicefs/**/*.py"), CHECKOUT / "invoicefs/py.typed"}
    assert package == {str(path.relative_to(CHECKOUT)) for path in modules}
    shared = {name.partition(".data/data/share/")[2] for name in names} - {""}
    files = {path for path in SHARE.rglob("*") if path.is_file()}
    assert shared == {str(path.relative_to(SHARE)) for path in files}


def test_the_sdist_has_the_scripts_and_examples(sdist: Path) -> None:
    for folder in (".ci", "invoicefs/share", "scripts"):
        here = {path for path in (CHECKOUT / folder).rglob("*") if path.is_file()}
        assert {path for path in here if not (sdist / path.relative_to(CHECKOUT)).exists()} == set()


@pytest.mark.timeout(LIMIT_S)
def test_the_sdist_can_run_the_tests(sdist: Path) -> None:
    # With Hypothesis's profile ci, the examples are the same in each run: new ones say nothing of
    # the sdist.
    run(
        tool("pytest"),
        *("-n", "auto", "--hypothesis-profile=ci", "tests/unit"),
        cwd=sdist,
        timeout_s=LIMIT_S,
    ).good()
