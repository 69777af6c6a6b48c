"""``invoicefs cache``: what the stores take, whether they are whole, and room for others."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from invoicefs.sandbox import Endpoint, Sandbox
from tests.mount.support.files import stat_of
from tests.mount.support.mounts import NEEDS_ROOT, Mount, Mounts
from tests.mount.support.programs import run
from tests.mount.support.tenants import NAMESPACE, contents, file_name, invoice, tenant

INVOICES = tuple(invoice(number, 100_000) for number in range(6))
TENANT = tenant(*INVOICES)
CONTENTS = contents(TENANT)
SUM_KIB = sum(map(len, CONTENTS.values())) / 1024


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(TENANT) as sandbox:
        yield sandbox


@pytest.fixture
def read(mounts: Mounts) -> Mount:
    """A mount of which all has been read."""
    mount = mounts.mount("--list-ttl", "1h")
    run("cat", *(mount / NAMESPACE / name for name in CONTENTS)).good()
    return mount


def kib_in(text: str, words: str) -> float:
    """The size that is told after some words."""
    found = re.search(rf"{words}([\d.]+) KiB", text)
    assert found, text
    return float(found[1])


def value_files(mounts: Mounts) -> list[Path]:
    return sorted((mounts.cache / "invoicefs").rglob("*.val"))


def is_mounted_or_not(mounts: Mounts, mount: Mount, is_mounted: bool) -> None:
    if not is_mounted:
        mounts.umount(mount)


WITH_OR_WITHOUT = pytest.mark.parametrize("is_mounted", [True, False], ids=["mounted", "unmounted"])


@WITH_OR_WITHOUT
def test_info_says_what_a_store_takes(mounts: Mounts, read: Mount, is_mounted: bool) -> None:
    is_mounted_or_not(mounts, read, is_mounted)

    (line,) = mounts.command("cache", "info").good().lines

    assert line.startswith(str(mounts.cache / "invoicefs" / "127.0.0.1"))
    assert kib_in(line, "6 invoices in ") >= SUM_KIB


@WITH_OR_WITHOUT
def test_small_invoices_take_and_free_as_much_as_is_said(
    sandbox: Sandbox, mounts: Mounts, is_mounted: bool
) -> None:
    """They are in the database itself, and in its journal while it is in use."""
    sandbox.tenant = tenant(*(invoice(number, 4_000) for number in range(48)))
    sum_kib = 48 * 4_000 / 1024
    mount = mounts.mount("--list-ttl", "1h")
    run("cat", *(mount / NAMESPACE / name for name in contents(sandbox.tenant))).good()
    is_mounted_or_not(mounts, mount, is_mounted)

    assert kib_in(mounts.command("cache", "info").good().text, "48 invoices in ") >= sum_kib
    would = kib_in(mounts.command("cache", "clear", "--dry-run").good().text, "would free ")
    assert would >= sum_kib
    freed = kib_in(mounts.command("cache", "clear").good().text, ": freed ")
    assert sum_kib <= freed <= would


def test_without_a_store_there_is_nothing_to_look_after(mounts: Mounts) -> None:
    for command in ("info", "verify", "clear"):
        ended = mounts.command("cache", command)
        assert (ended.code, ended.err.count("\n")) == (1, 1)
        assert ended.err.startswith("invoicefs: There is no cache in ")


@WITH_OR_WITHOUT
@pytest.mark.parametrize("options", [(), ("--dry-run",)], ids=["", "dry run"])
def test_verify_finds_what_is_damaged_and_it_is_downloaded_again(
    sandbox: Sandbox, mounts: Mounts, read: Mount, is_mounted: bool, options: tuple[str, ...]
) -> None:
    is_mounted_or_not(mounts, read, is_mounted)
    assert "6 invoices are whole, 0 damaged" in mounts.command("cache", "verify").good().text
    first, second, *_ = value_files(mounts)
    first.write_bytes(b"x" * 100_000)
    second.unlink()

    ended = mounts.command("cache", "verify", *options)

    assert ended.code == 1
    assert "4 invoices are whole, 2 damaged" in ended.text
    assert ("removed" in ended.text) is not bool(options)
    mount = read if is_mounted else mounts.mount()
    for name, pdf in CONTENTS.items():
        assert run("cat", mount / NAMESPACE / name).good().out == pdf
    assert sandbox.count(Endpoint.PDF) == len(CONTENTS) + 2
    assert "6 invoices are whole, 0 damaged" in mounts.command("cache", "verify").good().text


@pytest.mark.promise(
    "`invoicefs cache clear` frees disk space, even under a mount, and costs downloads but "
    "neither sizes nor dates."
)
@WITH_OR_WITHOUT
def test_clear_frees_the_disk_and_keeps_sizes_and_dates(
    sandbox: Sandbox, mounts: Mounts, read: Mount, is_mounted: bool
) -> None:
    paths = [read / NAMESPACE / name for name in CONTENTS]
    before = stat_of(*paths)
    is_mounted_or_not(mounts, read, is_mounted)
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


def test_clearing_all_forgets_sizes_too(mounts: Mounts, read: Mount) -> None:
    mounts.umount(read)

    mounts.command("cache", "clear", "--all").good()

    mount = mounts.mount()
    (new,) = stat_of(mount / NAMESPACE / file_name(INVOICES[0]))
    assert new.blocks == 0


def test_only_the_store_of_one_tenant_is_cleared_where_it_is_named(
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


@NEEDS_ROOT
def test_a_store_of_somebody_else_is_not_touched(mounts: Mounts, read: Mount) -> None:
    mounts.umount(read)
    (store,) = (mounts.cache / "invoicefs").iterdir()
    os.chown(store, 12345, 12345)

    ended = mounts.command("cache", "clear")

    assert (ended.code, "another user" in ended.err) == (1, True)
    assert len(value_files(mounts)) == len(CONTENTS)
