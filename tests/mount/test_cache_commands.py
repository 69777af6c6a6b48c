"""``invoicefs cache``: the size of caches, their verification, and freeing space."""

import json
import re
from pathlib import Path

import pytest

from invoicefs.sandbox import Endpoint, Sandbox
from tests.mount.support.files import stat_of
from tests.mount.support.mounts import Mount, Mounts
from tests.mount.support.programs import run
from tests.mount.support.tenants import NAMESPACE, contents, file_name, invoice, tenant

INVOICES = tuple(invoice(number, 100_000) for number in range(6))
TENANT = tenant(*INVOICES)
pytestmark = pytest.mark.tenant(TENANT)
CONTENTS = contents(TENANT)
SUM_KIB = sum(map(len, CONTENTS.values())) / 1024


@pytest.fixture
def read(mounts: Mounts) -> Mount:
    """A mount whose invoices have all been read."""
    mount = mounts.mount("--list-ttl", "1h")
    run("cat", *(mount / NAMESPACE / name for name in CONTENTS)).good()
    return mount


def kib_in(text: str, words: str) -> float:
    """The size that follows these words."""
    found = re.search(rf"{words}([\d.]+) KiB", text)
    assert found, text
    return float(found[1])


def value_files(mounts: Mounts) -> list[Path]:
    return sorted((mounts.cache / "invoicefs").rglob("*.val"))


def unmount_unless(mounts: Mounts, mount: Mount, is_mounted: bool) -> None:
    if not is_mounted:
        mounts.umount(mount)


MOUNTED_OR_NOT = pytest.mark.parametrize("is_mounted", [True, False], ids=["mounted", "unmounted"])


@MOUNTED_OR_NOT
def test_info_and_clear_report_the_true_size_of_small_invoices(
    sandbox: Sandbox, mounts: Mounts, is_mounted: bool
) -> None:
    """Small PDFs are in the database itself, and in its journal while the cache is in use."""
    sandbox.tenant = tenant(*(invoice(number, 4_000) for number in range(48)))
    sum_kib = 48 * 4_000 / 1024
    mount = mounts.mount("--list-ttl", "1h")
    run("cat", *(mount / NAMESPACE / name for name in contents(sandbox.tenant))).good()
    unmount_unless(mounts, mount, is_mounted)

    assert kib_in(mounts.command("cache", "info").good().text, "48 invoices in ") >= sum_kib
    expected_kib = kib_in(mounts.command("cache", "clear", "--dry-run").good().text, "would free ")
    assert expected_kib >= sum_kib
    freed = kib_in(mounts.command("cache", "clear").good().text, ": freed ")
    assert sum_kib <= freed <= expected_kib


def test_without_a_cache_every_command_is_an_error(mounts: Mounts) -> None:
    for command in ("info", "verify", "clear"):
        ended = mounts.command("cache", command)
        assert (ended.code, ended.err.count("\n")) == (1, 1)
        assert ended.err.startswith("invoicefs: There is no cache in ")


@MOUNTED_OR_NOT
@pytest.mark.parametrize("options", [(), ("--dry-run",)], ids=["", "dry run"])
def test_verify_finds_damaged_invoices_and_they_are_downloaded_again(
    sandbox: Sandbox, mounts: Mounts, read: Mount, is_mounted: bool, options: tuple[str, ...]
) -> None:
    unmount_unless(mounts, read, is_mounted)
    assert "6 whole invoices, 0 damaged" in mounts.command("cache", "verify").good().text
    first, second, *_ = value_files(mounts)
    first.write_bytes(b"x" * 100_000)
    second.unlink()

    ended = mounts.command("cache", "verify", *options)

    assert ended.code == 1
    assert "4 whole invoices, 2 damaged" in ended.text
    assert ("removed" in ended.text) is not bool(options)
    mount = read if is_mounted else mounts.mount()
    for name, pdf in CONTENTS.items():
        assert run("cat", mount / NAMESPACE / name).good().out == pdf
    assert sandbox.count(Endpoint.PDF) == len(CONTENTS) + 2
    assert "6 whole invoices, 0 damaged" in mounts.command("cache", "verify").good().text


@pytest.mark.promise(
    "With `--json`, `doctor`, `fetch`, `cache info` and `cache verify` print the same as JSON, and "
    "nothing else on stdout."
)
def test_info_and_verify_print_json(mounts: Mounts, read: Mount) -> None:
    mounts.umount(read)
    (info,) = json.loads(mounts.command("cache", "info", "--json").good().out)
    first, *_ = value_files(mounts)
    first.unlink()

    ended = mounts.command("cache", "verify", "--json")

    (found,) = json.loads(ended.out)
    assert (ended.code, ended.err) == (1, "")
    assert found == {"folder": info["folder"], "whole": 5, "damaged": 1, "removed": 1}
    assert info["invoices"] == 6
    assert SUM_KIB * 1024 <= info["pdf_bytes"] <= info["size_bytes"]


@pytest.mark.promise(
    "`invoicefs cache clear` frees disk space, even under a mount, and costs downloads but "
    "neither sizes nor dates."
)
@MOUNTED_OR_NOT
def test_clear_frees_the_disk_and_keeps_sizes_and_dates(
    sandbox: Sandbox, mounts: Mounts, read: Mount, is_mounted: bool
) -> None:
    paths = [read / NAMESPACE / name for name in CONTENTS]
    before = stat_of(*paths)
    unmount_unless(mounts, read, is_mounted)
    dry = mounts.command("cache", "clear", "--dry-run").good().text
    assert kib_in(dry, "would free ") >= SUM_KIB
    assert len(value_files(mounts)) == len(CONTENTS)

    (line,) = mounts.command("cache", "clear").good().lines

    assert kib_in(line, ": freed ") >= SUM_KIB
    assert value_files(mounts) == []
    mount = read if is_mounted else mounts.mount(path=read.path)
    assert stat_of(*paths) == before
    sandbox.forget_calls()
    for name, pdf in CONTENTS.items():
        assert run("cat", mount / NAMESPACE / name).good().out == pdf
    assert sandbox.count(Endpoint.PDF) == len(CONTENTS)


def test_clear_all_removes_the_sizes_as_well(mounts: Mounts, read: Mount) -> None:
    mounts.umount(read)

    mounts.command("cache", "clear", "--all").good()

    mount = mounts.mount()
    (new,) = stat_of(mount / NAMESPACE / file_name(INVOICES[0]))
    assert new.blocks == 0


def test_clear_with_a_url_clears_the_cache_of_that_tenant_only(
    sandbox: Sandbox, mounts: Mounts, read: Mount
) -> None:
    mounts.umount(read)
    with Sandbox(TENANT, token=sandbox.token) as other:
        mount = mounts.new_path()
        mounts.command("mount", mount, env={"INVOICEFS_URL": other.url}).good()
        run("cat", mount / NAMESPACE / file_name(INVOICES[0])).good()
        mounts.umount(mounts.at(mount))
        mounts.command("cache", "clear", "--url", other.url).good()

    assert len(value_files(mounts)) == len(CONTENTS)
    refused = mounts.command("cache", "clear", "--url", "https://acme.example")
    assert (refused.code, "There is no cache of https://acme.example" in refused.err) == (1, True)
