"""The Debian package, on Debian 12 and 13: it is installed, works, and is removed."""

import os
import re
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from invoicefs.sandbox import Sandbox
from tests.mount.support.mounts import CHECKOUT
from tests.mount.support.programs import run
from tests.mount.support.tenants import NAMESPACE, contents, invoice, tenant
from tests.packages.conftest import BUILD_LIMIT_S
from tests.packages.machine import Machine

TENANT = tenant(invoice(0), invoice(1, 100_000))
CONTENTS = contents(TENANT)
ALL = b"".join(CONTENTS[name] for name in sorted(CONTENTS))
CHANGELOG = "usr/share/doc/invoicefs/changelog.gz"
TOKEN_FILE = "/etc/invoicefs.token"
LIMIT_S = 400  # a machine boots, and downloads packages

_NOBODY = 65_534
AS_NOBODY = ("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--")

pytestmark = [pytest.mark.tenant(TENANT), pytest.mark.timeout(LIMIT_S)]


def credential(sandbox: Sandbox) -> dict[str, str]:
    """Return the variables that name the tenant."""
    return {"INVOICEFS_URL": sandbox.url, "INVOICEFS_TOKEN": sandbox.token}


# The build.


@pytest.fixture
def ordinary_folder() -> Iterator[Path]:
    """A folder of an ordinary user, not in `tmp_path`, which no other user may enter."""
    with tempfile.TemporaryDirectory(prefix="invoicefs-test-") as name:
        os.chown(name, _NOBODY, _NOBODY)
        yield Path(name)


def test_lintian_finds_nothing(debian_package: Path) -> None:
    check = ("lintian", "--allow-root", "--display-info", "--pedantic")

    assert run(*check, debian_package).text == ""


def test_the_dependencies_are_those_of_pyproject(debian_package: Path) -> None:
    """py3dist-overrides names the package of each, without which there would be no bound."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    fields = {
        "Depends": project["dependencies"],
        "Recommends": [*extras["p12"], *extras["socks"], *extras["vesconfig"]],
        "Suggests": extras["demo"],
    }

    for field, requirements in fields.items():
        shown = run("dpkg-deb", "--field", debian_package, field).good().text
        bounds = re.findall(r"python3-\S+ \(>= (\S+)\)", shown)
        assert sorted(bounds) == sorted(re.findall(r">=([\d.]+)", " ".join(requirements)))


def test_any_user_builds_the_same_package_from_the_sdist(
    debian_package: Path, sdist: Path, ordinary_folder: Path
) -> None:
    """The time is that of the first package: it cannot be that of a commit."""
    changelog = f"dpkg-deb --fsys-tarfile {debian_package} | tar -xO ./{CHANGELOG} | zcat"
    time_of = "dpkg-parsechangelog --file - --show-field Timestamp"
    time = run("bash", "-c", f"{changelog} | {time_of}").good().text.strip()
    run("cp", "--recursive", sdist, ordinary_folder / "sources").good()
    build = (ordinary_folder / "sources/scripts/build-deb", ordinary_folder / "built")

    run(*AS_NOBODY, *build, env={"SOURCE_DATE_EPOCH": time}, timeout_s=BUILD_LIMIT_S).good()

    (package,) = (ordinary_folder / "built").iterdir()
    assert package.read_bytes() == debian_package.read_bytes()


# What it installs.


@pytest.mark.promise(
    "On Debian 12 and 13, the package works for a user, in fstab, and with its user units."
)
def test_a_user_mounts_and_reads_invoices(machine: Machine, sandbox: Sandbox) -> None:
    machine.user("mkdir invoices; invoicefs mount invoices", credential(sandbox)).good()

    copied = machine.user(f"cat invoices/{NAMESPACE}/*")

    machine.user("invoicefs umount invoices; rmdir invoices").good()
    assert copied.good().out == ALL


@pytest.mark.promise(
    "On Debian 12 and 13, the package works for a user, in fstab, and with its user units."
)
@pytest.mark.parametrize(
    "mount",
    [
        "mount /srv/invoices",
        f"mount -t invoicefs -o token_file={TOKEN_FILE} $URL /srv/invoices",
        f"mount -t fuse.invoicefs -o token_file={TOKEN_FILE} $URL /srv/invoices",
    ],
)
def test_mount_finds_the_helper(machine: Machine, sandbox: Sandbox, mount: str) -> None:
    line = f"{sandbox.url} /srv/invoices invoicefs token_file={TOKEN_FILE},noauto 0 0"
    machine.root(
        f"""
        mkdir -p /srv/invoices
        (umask 077; echo {sandbox.token} >{TOKEN_FILE})
        echo {line} >/etc/fstab
        URL={sandbox.url}
        {mount}
        """
    ).good()

    copied = machine.root(f"cat /srv/invoices/{NAMESPACE}/*")

    machine.root("umount /srv/invoices").good()
    assert copied.good().out == ALL


@pytest.mark.promise(
    "On Debian 12 and 13, the package works for a user, in fstab, and with its user units."
)
def test_the_user_units_mount_and_archive(machine: Machine, sandbox: Sandbox) -> None:
    variables = {**credential(sandbox), "INVOICEFS_ARCHIVE": "/home/alice/archive"}
    profile = "\n".join(f"{name}={value}" for name, value in variables.items())
    write = (
        'umask 077; mkdir -p archive .config/invoicefs; echo "$PROFILE" >.config/invoicefs/acme.env'
    )
    machine.user(write, {"PROFILE": profile}).good()
    machine.user("systemctl --user enable --now invoicefs@acme").good()
    listed = machine.user(f"ls acme/{NAMESPACE}").good()

    machine.user("systemctl --user start invoicefs-archive@acme").good()

    machine.user("systemctl --user disable --now invoicefs@acme; ! mountpoint acme").good()
    assert listed.lines == sorted(CONTENTS)
    assert machine.user(f"cat archive/{NAMESPACE}/*").good().out == ALL


def test_systemd_accepts_the_user_units(machine: Machine) -> None:
    units = "/usr/lib/systemd/user/invoicefs*"

    assert machine.user(f"systemd-analyze --user verify {units}").good().err == ""


def test_man_finds_the_page_of_each_command(machine: Machine) -> None:
    pages = [page.name for page in (CHECKOUT / "invoicefs/share/man").rglob("*.*")]

    shown = machine.user(f"man --where {' '.join(Path(page).stem for page in pages)}").good()

    assert sorted(Path(line).stem for line in shown.lines) == sorted(pages)


def test_help_shows_the_installed_page(machine: Machine) -> None:
    assert "INVOICEFS-MOUNT(1)" in machine.user("invoicefs help mount").good().text


def test_bash_completes_commands(machine: Machine) -> None:
    """bash-completion loads the file, as it does when Tab is pressed."""
    script = """
        set +eu
        . /usr/share/bash-completion/bash_completion
        if type -t _comp_load; then _comp_load invoicefs; else _completion_loader invoicefs; fi
        COMP_WORDS=(invoicefs moun) COMP_CWORD=1
        $(complete -p invoicefs | sed -E 's/.* -F (\\S+) .*/\\1/') invoicefs
        echo "${COMPREPLY[@]}"
    """
    assert machine.user(script).lines[-1] == "mount"


# Upgrade and removal.


@pytest.mark.promise("A mount continues during an upgrade and after the removal of the package.")
def test_a_mount_survives_an_upgrade_and_the_removal(machine: Machine, sandbox: Sandbox) -> None:
    machine.user("mkdir invoices; invoicefs mount invoices", credential(sandbox)).good()

    machine.apt_get("install --reinstall invoicefs")
    status = machine.user("invoicefs status invoices")
    machine.apt_get("remove invoicefs")
    copied = machine.user(f"cat invoices/{NAMESPACE}/*")

    machine.user("fusermount3 -u invoices; rmdir invoices").good()
    machine.install()
    assert status.code == 0
    assert copied.good().out == ALL


@pytest.mark.promise("A purge of the package leaves nothing but caches and profiles of users.")
def test_a_purge_leaves_no_file(new_machine: Machine, sandbox: Sandbox) -> None:
    machine = new_machine
    before = machine.files()
    machine.install()
    options = f"token_file={TOKEN_FILE},cache_dir=/var/cache/invoicefs"
    machine.root(
        f"""
        (umask 077; echo {sandbox.token} >{TOKEN_FILE})
        mount -t invoicefs -o {options} {sandbox.url} /mnt
        cat /mnt/{NAMESPACE}/* >/dev/null
        umount /mnt
        rm {TOKEN_FILE}
        """
    ).good()

    machine.apt_get("purge invoicefs")
    machine.apt_get("autoremove --purge")

    assert machine.files() - before == set()
