"""``invoicefs fetch`` downloads everything below some paths, and reports what failed."""

import json
import re
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from invoicefs.sandbox import (
    Endpoint,
    Fault,
    SampleNamespace,
    SampleTenant,
    Sandbox,
    faults,
    plain_pdf,
)
from tests.mount.support.gate import Gate
from tests.mount.support.mounts import Mounts
from tests.mount.support.programs import LIMIT_S, eventually, run
from tests.mount.support.tenants import NAMESPACE, contents, file_name, invoice, tenant

INVOICES = tuple(invoice(number) for number in range(30))
TENANT = SampleTenant(
    "acme",
    (
        SampleNamespace(NAMESPACE, INVOICES),
        SampleNamespace("other", INVOICES[:5]),
        SampleNamespace("closed", INVOICES[:1], frozenset({Endpoint.INVOICES})),
    ),
)
pytestmark = pytest.mark.tenant(TENANT)
CONTENTS = contents(TENANT)
BAD = INVOICES[3]


@pytest.mark.promise(
    "`invoicefs fetch PATH` downloads everything below it, several invoices at the same time,"
    " and a second run downloads only what is missing."
)
def test_a_second_fetch_downloads_nothing_again(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.latency_s = 0.02
    mount = mounts.mount("--parallel", "4")

    first = mounts.command("fetch", mount / NAMESPACE).good()
    second = mounts.command("fetch", mount / NAMESPACE, mount / "other").good()

    assert first.lines[-1] == "30 downloaded, 0 already cached, 0 failed."
    assert second.lines[-1] == "5 downloaded, 30 already cached, 0 failed."
    assert sandbox.count(Endpoint.PDF) == 35
    assert 1 < sandbox.peak_concurrency <= 4
    sandbox.go_away()
    assert run("cat", mount / NAMESPACE / file_name(BAD)).good().out == CONTENTS[file_name(BAD)]
    sandbox.come_back()


@pytest.mark.promise(
    "`invoicefs fetch PATH` downloads everything below it, several invoices at the same time,"
    " and a second run downloads only what is missing."
)
@pytest.mark.parametrize("is_remounted", [False, True], ids=["same mount", "remounted"])
def test_invoices_cleared_from_the_cache_are_downloaded_again(
    sandbox: Sandbox, mounts: Mounts, tmp_path: Path, is_remounted: bool
) -> None:
    mount = mounts.mount()
    mounts.command("fetch", mount / NAMESPACE).good()
    mounts.command("cache", "clear").good()
    if is_remounted:
        mounts.umount(mount)
        mount = mounts.mount(path=mount.path)
    link = tmp_path / "link"
    link.symlink_to(mount.path)

    ended = mounts.command("fetch", link / NAMESPACE).good()

    assert ended.lines[-1] == "30 downloaded, 0 already cached, 0 failed."
    sandbox.go_away()
    assert run("cat", mount / NAMESPACE / file_name(BAD)).good().out == CONTENTS[file_name(BAD)]


def test_a_cache_too_small_for_the_download_is_reported(sandbox: Sandbox, mounts: Mounts) -> None:
    sandbox.tenant = tenant(*(invoice(number, 100_000) for number in range(30)))
    mount = mounts.mount("--cache-size", "1MiB")

    ended = mounts.command("fetch", mount / NAMESPACE).good()

    assert ended.lines[-1] == "30 downloaded, 0 already cached, 0 failed."
    assert "did not stay in the cache: it is too small (--cache-size)" in ended.err


def test_without_a_terminal_there_is_a_line_for_each_tenth(mounts: Mounts) -> None:
    mount = mounts.mount()

    lines = mounts.command("fetch", mount / NAMESPACE).good().lines

    assert [line.partition(",")[0] for line in lines[:-1]] == [
        f"{number} of 30" for number in range(3, 31, 3)
    ]


@pytest.mark.promise(
    "It reports what could not be downloaded and why, exits with status 1 in that case, and "
    "downloads it when it is run again."
)
def test_a_failed_download_is_explained_and_succeeds_in_a_later_run(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    mount = mounts.mount("--max-wait", "0s", "--read-ahead", "0")
    refused = faults.status(403, "not for you")
    sandbox.inject(Fault(refused, Endpoint.PDF, NAMESPACE, BAD.name))

    ended = mounts.command("fetch", mount.path)

    assert ended.code == 1
    assert ended.lines[-1] == "34 downloaded, 0 already cached, 2 failed."
    bad, closed = sorted(ended.err.splitlines(), key=lambda line: NAMESPACE not in line)
    assert bad == f"{mount / NAMESPACE / file_name(BAD)}: the server answered 403: not for you"
    assert closed == f"{mount / 'closed'}: Permission denied"
    sandbox.heal()

    def fetch_succeeds() -> bool:  # a recent failure is repeated for some seconds
        return mounts.command("fetch", mount / NAMESPACE).code == 0

    eventually(fetch_succeeds)
    assert sandbox.count(Endpoint.PDF, NAMESPACE, BAD.name) == 2
    assert sandbox.count(Endpoint.PDF, NAMESPACE) == len(INVOICES) + 1


@pytest.mark.promise(
    "With `--json`, `doctor`, `fetch`, `cache info` and `cache verify` print the same as JSON, and "
    "nothing else on stdout."
)
def test_the_result_is_printed_as_json(sandbox: Sandbox, mounts: Mounts) -> None:
    mount = mounts.mount("--max-wait", "0s", "--read-ahead", "0")
    sandbox.inject(Fault(faults.status(404, "not paid"), Endpoint.PDF, NAMESPACE, BAD.name))
    run("cat", mount / NAMESPACE / file_name(INVOICES[0])).good()

    ended = mounts.command("fetch", "--json", mount / NAMESPACE)

    assert (ended.code, ended.err) == (1, "")
    assert json.loads(ended.out) == {
        "downloaded": 28,
        "downloaded_bytes": sum(map(len, CONTENTS.values())) - 2000,
        "cached": 1,
        "evicted": 0,
        "interrupted": False,
        "failures": [
            {
                "path": str(mount / NAMESPACE / file_name(BAD)),
                "errno": "ENOENT",
                "words": "the server answered 404: not paid",
            }
        ],
    }


@pytest.mark.promise("With `--quiet` it prints only failures.")
def test_a_quiet_fetch_prints_only_failures(sandbox: Sandbox, mounts: Mounts) -> None:
    mount = mounts.mount("--max-wait", "0s", "--read-ahead", "0")
    ended = mounts.command("fetch", "--quiet", mount / "other").good()
    assert (ended.out, ended.err) == (b"", "")

    sandbox.inject(Fault(faults.status(404, "not paid"), Endpoint.PDF, NAMESPACE, BAD.name))
    ended = mounts.command("fetch", "-q", mount / NAMESPACE)

    assert (ended.code, ended.out) == (1, b"")
    path = mount / NAMESPACE / file_name(BAD)
    assert ended.err == f"{path}: the server answered 404: not paid\n"


def test_a_path_outside_any_mount_is_an_error(mounts: Mounts, tmp_path: Path) -> None:
    ended = mounts.command("fetch", tmp_path)

    assert (ended.code, ended.out) == (1, b"")
    assert "not in a mount of invoicefs" in ended.err


@pytest.mark.promise("Ctrl-C stops it after the downloads in flight, and it reports its progress.")
def test_after_ctrl_c_the_next_run_continues(sandbox: Sandbox, mounts: Mounts) -> None:
    mount, gate = mounts.mount("--parallel", "3", "--read-ahead", "0"), Gate()
    run("ls", mount / NAMESPACE).good()
    sandbox.inject(Fault(gate, Endpoint.PDF, times=3))
    with mounts.started("fetch", mount / NAMESPACE) as running:
        assert gate.arrived.wait(LIMIT_S)
        running.process.send_signal(signal.SIGINT)
        gate.open()
        ended = running.end()

    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert f"of {len(INVOICES)} invoices were downloaded" in ended.err
    before = sandbox.count(Endpoint.PDF)
    assert before < len(INVOICES)
    assert (
        mounts.command("fetch", mount / NAMESPACE)
        .good()
        .lines[-1]
        .startswith(f"{len(INVOICES) - before} downloaded")
    )
    assert sandbox.count(Endpoint.PDF) == len(INVOICES)


@pytest.mark.promise("With `--again` it replaces what is cached, final or not.")
def test_again_replaces_the_cached_copy_and_keeps_open_files(
    sandbox: Sandbox, mounts: Mounts
) -> None:
    """When the vendor had corrected an invoice, only clearing the whole cache helped."""
    mount = mounts.mount()
    mounts.command("fetch", mount / NAMESPACE).good()
    corrected = replace(INVOICES[0], pdf=plain_pdf("corrected", 4000))
    sandbox.tenant = tenant(corrected, *INVOICES[1:])
    sandbox.forget_calls()
    path = mount / NAMESPACE / file_name(corrected)
    before = path.stat()

    with open(path, "rb") as open_file:
        ended = mounts.command("fetch", "--again", path).good()
        assert ended.lines[-1] == "1 downloaded, 0 already cached, 0 failed."
        assert open_file.read() == INVOICES[0].content()
    assert run("cat", path).good().out == corrected.content()
    assert path.stat().st_mtime > before.st_mtime
    assert sandbox.count() == sandbox.count(Endpoint.PDF, name=corrected.name) == 1
    assert sandbox.calls[0].headers["cache-control"] == "no-cache"

    sandbox.inject(Fault(faults.status(404), Endpoint.PDF))
    refused = mounts.command("fetch", "--again", path)
    assert (refused.code, "404" in refused.err) == (1, True)
    assert run("cat", path).good().out == corrected.content()


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_the_progress_bar_fits_on_one_line(sandbox: Sandbox, mounts: Mounts, columns: int) -> None:
    mount = mounts.mount()
    sandbox.latency_s = 0.01
    script = f"stty cols {columns}; exec {sys.executable} -m invoicefs fetch {mount / NAMESPACE}"
    environment = {**mounts.environment, "TERM": "xterm"}
    shown = run("script", "-qec", script, "/dev/null", env=environment, cwd=Path("/")).good().text

    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9?;]*[a-zA-Z]", "", shown))
    bars = [line.rstrip() for line in lines if line.startswith("  [")]
    assert len(bars) > 2
    assert max(map(len, bars)) < columns
