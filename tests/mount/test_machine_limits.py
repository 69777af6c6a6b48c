"""Few descriptors, few threads, concurrent commands: clear errors, and nothing hangs."""

import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from invoicefs.sandbox import Sandbox
from tests.mount.support.files import in_folder
from tests.mount.support.mounts import FUSERMOUNT, NEEDS_ROOT, Mounts
from tests.mount.support.programs import Ended, run
from tests.mount.support.tenants import NAMESPACE, contents, invoice, tenant

TENANT = tenant(*(invoice(number) for number in range(40)))
LIMITED = "ulimit {limit}; exec {python} -m invoicefs mount {words}"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(TENANT, latency_s=0.05) as sandbox:
        yield sandbox


def mounted_under(mounts: Mounts, limit: str, *options: str) -> tuple[Path, Ended]:
    """Mount under a limit of the shell; return the mount point and the result of the command."""
    path = mounts.new_path()
    words = " ".join([*options, str(path)])
    source = LIMITED.format(limit=limit, python=sys.executable, words=words)
    return path, run("bash", "-c", source, env=mounts.environment, cwd=Path("/"))


@pytest.mark.promise(
    "A lack of file descriptors or threads is reported in a message and never blocks a mount."
)
def test_too_large_a_parallel_is_refused_with_the_largest_that_fits(
    mounts: Mounts, tmp_path: Path
) -> None:
    """Such a mount used to hang for ever, with "No route to host"."""
    _, refused = mounted_under(mounts, "-n 256", "--parallel", "300")
    assert refused.code == 1
    fitting = refused.err.partition("use --parallel ")[2].partition(",")[0]

    path, ended = mounted_under(mounts, "-n 256", "--parallel", fitting)
    ended.good()
    run("cp", "-r", path / NAMESPACE, tmp_path / "copy").good()
    assert in_folder(tmp_path / "copy") == contents(TENANT)


def test_the_soft_limit_is_raised_to_the_hard_one(mounts: Mounts) -> None:
    path, ended = mounted_under(mounts, "-Sn 64")
    ended.good()

    limits = Path(f"/proc/{mounts.at(path).daemon}/limits").read_text()
    soft, hard = next(line for line in limits.splitlines() if "open files" in line).split()[3:5]
    assert soft == hard


@pytest.mark.promise(
    "A lack of file descriptors or threads is reported in a message and never blocks a mount."
)
@NEEDS_ROOT
@pytest.mark.parametrize(("user", "threads"), [("games", 30), ("news", 16)])
def test_few_threads_are_enough(mounts: Mounts, user: str, threads: int) -> None:
    """One thread per request made the copy fail. The limit counts all threads of a user."""
    with tempfile.TemporaryDirectory(prefix="invoicefs-limited-", dir="/tmp") as name:
        folder = Path(name)
        (folder / "mnt").mkdir()
        run("chown", "-R", user, folder).good()
        environment = {**mounts.environment, "XDG_CACHE_HOME": name, "HOME": name}
        script = f"""
            ulimit -u {threads}
            {sys.executable} -m invoicefs mount {name}/mnt &&
                cp -r {name}/mnt/{NAMESPACE} {name}/copy
        """
        as_user = ("setpriv", f"--reuid={user}", "--clear-groups", "--inh-caps=+dac_read_search")
        ambient = ("--ambient-caps=+dac_read_search", "bash", "-c", script)
        ended = run(*as_user, *ambient, env=environment, cwd=Path("/"))
        run(FUSERMOUNT, "-uz", folder / "mnt")

        ended.good()
        assert in_folder(folder / "copy") == contents(TENANT)


@pytest.mark.promise("Of several concurrent `mount` commands exactly one mounts.")
@pytest.mark.parametrize("count", [5])
def test_exactly_one_of_several_concurrent_mount_commands_succeeds(
    mounts: Mounts, count: int
) -> None:
    path = mounts.new_path()
    with ThreadPoolExecutor(count) as threads:
        ended = list(threads.map(lambda _: mounts.command("mount", path), range(count)))

    assert sorted(result.code for result in ended) == [0, *[1] * (count - 1)]
    assert all("is already mounted" in result.err for result in ended if result.code)
    mounts.umount(mounts.at(path))
    assert not path.is_mount()


def test_a_failed_mount_leaves_no_cache_behind(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.go_away()

    assert mounts.command("mount", "--max-wait", "0s", mounts.new_path()).code == 1
    assert not mounts.cache.exists()


@NEEDS_ROOT
def test_a_mount_process_cannot_be_dumped(unprivileged_mounts: Mounts) -> None:
    """A mount has a token in memory. See PR_SET_DUMPABLE in prctl(2) for the owner of its files."""
    daemon = unprivileged_mounts.mount().daemon

    assert Path(f"/proc/{daemon}/mem").stat().st_uid == 0
