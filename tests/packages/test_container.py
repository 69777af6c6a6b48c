"""The image of ``scripts/Containerfile``, built and run by Podman."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import pytest

from invoicefs.sandbox import Sandbox
from tests.mount.support.programs import eventually, missing
from tests.mount.support.tenants import NAMESPACE, contents, file_name, invoice, tenant
from tests.packages.podman import BUILD_LIMIT_S, IMAGE, Podman, in_namespace

pytestmark = pytest.mark.timeout(2 * BUILD_LIMIT_S + 60)  # the first test builds the image

FIRST = invoice(0)
TENANT = tenant(FIRST, invoice(1, 100_000))
USER = 1000  # of the image
FUSE = ("--device=/dev/fuse", "--cap-add=SYS_ADMIN")


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """Podman with the image."""
    if os.geteuid() != 0 or which("podman") is None:
        missing("podman is missing, or the tests are not run by root")
    with in_namespace(tmp_path_factory.mktemp("podman")) as podman:
        podman.build()
        yield podman


@pytest.fixture(scope="module")
def options(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """The options of `podman run` for the tenant."""
    token = tmp_path_factory.mktemp("token") / "token"
    with Sandbox(TENANT) as sandbox:
        token.write_text(sandbox.token)
        podman("secret", "create", "invoicefs-token", token).good()
        yield (
            "--secret=invoicefs-token,uid=1000,mode=0400",
            "--env=INVOICEFS_TOKEN_FILE=/run/secrets/invoicefs-token",
            f"--env=INVOICEFS_URL={sandbox.url}",
        )


@contextmanager
def running(podman: Podman, *arguments: str) -> Iterator[str]:
    """A container that mounts, and is removed at the end."""
    name = podman("run", "--detach", *arguments).good().text.strip()
    try:
        eventually(lambda: podman("healthcheck", "run", name).code == 0)
        yield name
    finally:
        podman("rm", "--force", "--time=5", name)


def folder_of_user(podman: Podman, *names: str) -> Path:
    """Return a folder outside the containers that belongs to the user in them."""
    path = podman.shared.joinpath(*names)
    path.mkdir()
    os.chown(path, USER, USER)
    return path


@pytest.mark.promise("The container image lists the invoices, without any privilege.")
def test_a_container_lists_the_invoices(podman: Podman, options: tuple[str, ...]) -> None:
    listed = podman("run", "--rm", "--cap-drop=all", *options, IMAGE, "list").good()

    assert all(invoice.name in listed.text for invoice in TENANT.by_name[NAMESPACE].invoices)


@pytest.mark.promise(
    "In a container an ordinary user mounts, `podman exec` copies the invoices to an archive, and "
    "`podman stop` unmounts them."
)
def test_a_mount_in_a_container_is_copied_to_an_archive(
    podman: Podman, options: tuple[str, ...]
) -> None:
    archive = folder_of_user(podman, "archive")
    volume = f"--volume={archive}:/archive"
    command = (IMAGE, "mount", "--foreground", "/mnt/invoices")
    with running(podman, *options, *FUSE, volume, *command) as name:
        podman("exec", name, "rsync", "--archive", "/mnt/invoices/", "/archive").good()
        podman("exec", name, "invoicefs", "verify", "/archive", "/mnt/invoices").good()
        podman("stop", name).good()
        code = podman("inspect", "--format={{.State.ExitCode}}", name).good().text.strip()

    copied = {path.name: path.read_bytes() for path in (archive / NAMESPACE).iterdir()}
    assert copied == contents(TENANT)
    assert {path.stat().st_uid for path in archive.rglob("*.pdf")} == {USER}
    assert code == "0"


@pytest.mark.promise(
    "Through an `rshared` volume, the mount of a container is visible outside, even after the "
    "container was killed and started again."
)
def test_a_mount_in_a_container_is_visible_outside_even_after_it_was_killed(
    podman: Podman, options: tuple[str, ...]
) -> None:
    volume = folder_of_user(podman, "invoices")
    mount_point = folder_of_user(podman, "invoices", "acme")
    file = mount_point / NAMESPACE / file_name(FIRST)
    shared = f"--volume={volume}:/srv/invoices:rshared"
    command = (IMAGE, "mount", "--foreground", "--allow-other", "/srv/invoices/acme")
    with running(podman, *options, *FUSE, shared, *command) as name:
        first = podman.outside("cat", file).good().out
        podman("kill", "--signal=KILL", name).good()
        podman("wait", name).good()
        podman("start", name).good()
        eventually(lambda: podman("healthcheck", "run", name).code == 0)
        second = podman.outside("cat", file).good().out
        podman("stop", name).good()
        after_stop = podman.outside("ls", mount_point).good().text

    assert first == second == contents(TENANT)[file_name(FIRST)]
    assert after_stop == ""
