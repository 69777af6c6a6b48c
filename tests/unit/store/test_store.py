"""The store on real folders: what it keeps, where, for whom, and what cannot stop it.

What it does not believe is in `test_store_damage`.
"""

import logging
import os
import resource
import sqlite3
import stat
import threading
from collections import UserDict
from collections.abc import Callable, ItemsView, Iterator
from concurrent.futures import wait
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from invoicefs.clock import SystemClock
from invoicefs.errors import StoreUnusable
from invoicefs.model import Content, Invoice, Listing, Record, StoredContent
from invoicefs.store.disk_cache import DiskCache
from invoicefs.store.pauses import PAUSE_S
from invoicefs.store.store import Store, open_store, store_folder
from tests.support.fake_clock import FakeClock
from tests.support.fake_tenant import pdf_of
from tests.support.running_library import crowd
from tests.support.store_folder import (
    IN_A_FILE,
    IN_A_ROW,
    MIB,
    OpenStore,
    caches,
    connection,
    content_of,
    database,
    invoice,
    loaded,
    put_values,
    stored_values,
    threads_that_use,
    use_for_everything,
    value_files,
)

ODD_NAMES = [
    "plain",
    "with/slash",
    "with%2Fpercent",
    "dots/../../etc/passwd",
    "blanks and\ttabs\n",
    "quote\"'`;--",
    "nul\0byte",
    "Größe-請求書-🧾",
    "e\u0301 and \u00e9",
    "lone \ud800 surrogates \udfff",
    "-1",
    "null",
    "n" * 5000,
    "é" * 300,
]
odd_names = pytest.mark.parametrize("name", ODD_NAMES, ids=lambda name: ascii(name)[1:30])
both_caches = pytest.mark.parametrize("cache", ["pdf", "meta"])
sizes = pytest.mark.parametrize("size_bytes", [IN_A_ROW, IN_A_FILE], ids=["row", "file"])


# What is kept.


def test_a_new_store_knows_nothing(store: Store) -> None:
    assert store.namespaces() == ()
    assert store.listing("system") is None
    assert store.record(invoice()) is None
    assert store.pdf(StoredContent(1, "00" * 32, "v", 0)) is None


def test_namespaces_come_back_in_their_order(store: Store) -> None:
    store.save_namespaces(tuple(ODD_NAMES))
    assert store.namespaces() == tuple(ODD_NAMES)
    store.save_namespaces(("b", "a"))
    assert store.namespaces() == ("b", "a")


@odd_names
def test_names_come_back_whatever_is_in_them(store: Store, name: str) -> None:
    full = Invoice(name, name, True, name, name, name, name, name)
    listing = Listing.of([full, Invoice(name, "other")])
    content = content_of(pdf_of(name))
    store.save_listing(name, listing)
    store.save(full, content)
    assert store.listing(name) == listing
    assert store.record(full) == content.record
    assert loaded(store, full) == content.pdf


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(fields=st.lists(st.text(st.characters(exclude_categories=())), min_size=7, max_size=7))
def test_any_text_comes_back(store: Store, fields: list[str]) -> None:
    namespace, name, *others = fields
    billed = Invoice(namespace, name, False, *others)
    store.save_listing(namespace, Listing.of([billed]))
    store.save_records({billed: Record(1)})
    assert store.listing(namespace) == Listing((billed,))
    assert store.record(billed) == Record(1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a/b", "c"), ("a", "b/c")),
        (("a", "b%2Fc"), ("a", "b/c")),
        (("a", "b"), ("b", "a")),
        (("a", "B"), ("a", "b")),
        (("a", "\u00e9"), ("a", "e\u0301")),
        (("n", "x" * 999 + "1"), ("n", "x" * 999 + "2")),
        (("n" * 999 + "1", "x"), ("n" * 999 + "2", "x")),
    ],
    ids=["slash", "percent", "swapped", "case", "composed", "overlong-name", "overlong-namespace"],
)
def test_similar_names_stay_apart(
    store: Store, one: tuple[str, str], other: tuple[str, str]
) -> None:
    first, second = Invoice(*one), Invoice(*other)
    store.save(first, content_of(pdf_of("one")))
    assert store.record(second) is None
    store.save(second, content_of(pdf_of("other")))
    assert loaded(store, first) == pdf_of("one")
    assert loaded(store, second) == pdf_of("other")
    if first.namespace != second.namespace:
        store.save_listing(first.namespace, Listing((first,)))
        assert store.listing(second.namespace) is None


def test_listings_do_not_mix_with_records_and_namespaces(store: Store) -> None:
    store.save_namespaces(("n",))
    store.save_records({invoice("namespaces", "listing"): Record(1)})
    store.save_listing("namespaces", Listing((invoice(namespace="namespaces"),)))
    assert store.namespaces() == ("n",)
    assert store.record(invoice("namespaces", "listing")) == Record(1)


def test_an_empty_listing_is_not_a_miss(store: Store) -> None:
    store.save_listing("system", Listing())
    assert store.listing("system") == Listing()


def test_a_long_listing_comes_back_whole(store: Store) -> None:
    listing = Listing.of([invoice(f"invoice-{number:05}") for number in range(3000)])
    store.save_listing("system", listing)
    assert store.listing("system") == listing


@pytest.mark.parametrize(
    "record",
    [
        Record(0),
        Record(-1),
        Record(4_102_444_800 * 10**9 + 1),
        Record(1, StoredContent(1, "ab" * 32, "", 0)),
        Record(1, StoredContent(2**40, "ab" * 32, "version", 2**62)),
    ],
)
def test_records_come_back(store: Store, record: Record) -> None:
    store.save_records({invoice(): Record(99)})
    store.save_records({invoice(): record})
    assert store.record(invoice()) == record


@pytest.mark.parametrize("size_bytes", [10, 2**15 - 1, 2**15, 2**15 + 1, 5 * MIB])
def test_contents_come_back(store: Store, size_bytes: int) -> None:
    content = content_of(pdf_of("", size_bytes))
    store.save(invoice(), content)
    assert store.record(invoice()) == content.record
    assert loaded(store, invoice()) == content.pdf


@pytest.mark.parametrize("others", [0, 50], ids=["most are asked for", "few are asked for"])
def test_records_are_found_together(store: Store, others: int) -> None:
    known = {invoice(f"known-{number}"): Record(number) for number in range(3)}
    store.save_records({**known, **{invoice(f"other-{n}"): Record(1) for n in range(others)}})
    assert store.records([*known, *(invoice(f"new-{number}") for number in range(5))]) == known
    assert store.records([]) == {}


def test_a_record_without_content_can_be_saved_with_a_pdf(store: Store) -> None:
    store.save(invoice(), Content(Record(7), pdf_of("a")))
    assert store.record(invoice()) == Record(7)


def test_two_versions_are_both_found_by_their_facts(store: Store) -> None:
    old, new = content_of(pdf_of("old"), "v1"), content_of(pdf_of("new"), "v2")
    store.save(invoice(), old)
    store.save(invoice(), new)
    assert store.record(invoice()) == new.record
    assert old.record.content is not None
    assert store.pdf(old.record.content) == old.pdf


@sizes
def test_everything_survives_reopening(open_: OpenStore, size_bytes: int) -> None:
    content = content_of(pdf_of("", size_bytes))
    before = open_()
    before.save_namespaces(("system",))
    before.save_listing("system", Listing((invoice(),)))
    before.save(invoice(), content)
    before.close()
    after = open_()
    assert after.namespaces() == ("system",)
    assert after.listing("system") == Listing((invoice(),))
    assert after.record(invoice()) == content.record
    assert loaded(after, invoice()) == content.pdf


def test_a_closed_thread_may_go_on_using_the_store(store: Store) -> None:
    store.save_records({invoice(): Record(1)})
    store.close()
    assert store.record(invoice()) == Record(1)


# Where it is kept.


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_nobody_else_can_look_into_the_store(open_: OpenStore, folder: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        store = open_()
        store.save(invoice("row"), content_of(pdf_of("", IN_A_ROW)))
        store.save(invoice("file"), content_of(pdf_of("", IN_A_FILE)))
        store.save_listing("system", Listing.of([invoice(str(number)) for number in range(2000)]))
    finally:
        os.umask(before)
    assert value_files(folder)
    for path in [folder, *folder.rglob("*")]:
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_folders_made_on_the_way_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0o000)
    try:
        open_store(tmp_path / "cache" / "invoicefs" / "host", MIB, SystemClock()).close()
    finally:
        os.umask(before)
    for made in (tmp_path / "cache", tmp_path / "cache" / "invoicefs"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700, made


def test_a_folder_that_others_could_read_is_closed(open_: OpenStore, folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)
    open_()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.promise(
    "A store that belongs to somebody else, or that others could write into or replace, is not "
    "used."
)
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722, 0o702, 0o720, 0o1777])
def test_a_folder_that_others_could_write_into_is_refused(folder: Path, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)
    (folder / "planted").touch()
    with pytest.raises(StoreUnusable, match="others can write into it"):
        open_store(folder, MIB, SystemClock())
    assert [path.name for path in folder.iterdir()] == ["planted"]
    assert stat.S_IMODE(folder.stat().st_mode) == mode


@pytest.mark.promise(
    "A store that belongs to somebody else, or that others could write into or replace, is not "
    "used."
)
@pytest.mark.parametrize(("mode", "is_safe"), [(0o777, False), (0o1777, True), (0o775, True)])
def test_a_folder_that_others_could_replace_is_refused(
    folder: Path, mode: int, is_safe: bool
) -> None:
    folder.parent.chmod(mode)
    if is_safe:
        open_store(folder, MIB, SystemClock()).close()
        return
    with pytest.raises(StoreUnusable, match="others can write to"):
        open_store(folder, MIB, SystemClock())


def test_opening_leaves_no_other_files(open_: OpenStore, folder: Path) -> None:
    open_()
    assert [path.name for path in sorted(folder.iterdir())] == ["meta-1", "pdf-1"]


def test_a_folder_with_a_dollar_leads_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache would take it for a variable."""
    monkeypatch.setenv("ELSEWHERE", "elsewhere")
    folder = tmp_path / "$ELSEWHERE" / "~"
    with suppress(StoreUnusable), closing(open_store(folder, MIB, SystemClock())) as store:
        store.save(invoice(), content_of(pdf_of("", IN_A_FILE)))
        assert loaded(store, invoice()) == pdf_of("", IN_A_FILE)
        assert value_files(folder)
    assert {path.name for path in tmp_path.iterdir()} <= {"$ELSEWHERE"}


URLS = [
    "https://a.example",
    "https://a.example/prefix",
    "https://a.example:8443",
    "http://a.example",
    "https://b.example",
    "http://[::1]:8080",
    "https://..",
    "https://" + "a" * 63 + ".example/" + "p" * 500,
]


def test_every_url_has_a_folder_of_its_own(tmp_path: Path) -> None:
    folders = {store_folder(tmp_path, url) for url in URLS}
    assert len(folders) == len(URLS)
    assert all(folder.parent == tmp_path and folder.name not in (".", "..") for folder in folders)
    assert store_folder(tmp_path, URLS[0]) == store_folder(tmp_path, URLS[0])
    assert "a.example" in store_folder(tmp_path, URLS[0]).name


# Folders that cannot be used.


def file_in_the_way(tmp_path: Path) -> Path:
    (tmp_path / "file").touch()
    return tmp_path / "file"


def file_above(tmp_path: Path) -> Path:
    return file_in_the_way(tmp_path) / "store"


def dangling_link(tmp_path: Path) -> Path:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    return tmp_path / "link"


def overlong_name(tmp_path: Path) -> Path:
    return tmp_path / ("x" * 256)


def kernel_folder(_: Path) -> Path:
    return Path("/proc/invoicefs")  # cannot be made, not even by root


def unwritable_folder(_: Path) -> Path:
    return Path(f"/proc/{os.getpid()}/fd")  # is there, is ours, and cannot be written


@pytest.mark.parametrize(
    "unusable",
    [
        file_in_the_way,
        file_above,
        dangling_link,
        overlong_name,
        kernel_folder,
        unwritable_folder,
    ],
)
def test_an_unusable_folder_is_reported_by_name(
    tmp_path: Path, unusable: Callable[[Path], Path]
) -> None:
    folder = unusable(tmp_path)
    with pytest.raises(StoreUnusable, match=folder.name):
        open_store(folder, MIB, SystemClock())


@pytest.mark.promise(
    "A store that belongs to somebody else, or that others could write into or replace, is not "
    "used."
)
def test_a_folder_of_somebody_else_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    folder.chmod(0o755)
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StoreUnusable, match="another user"):
        open_store(folder, MIB, SystemClock())
    assert not list(folder.iterdir())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_a_folder_behind_a_link_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to("other")
    with pytest.raises(StoreUnusable):
        open_store(tmp_path / "link", MIB, SystemClock())
    assert not list((tmp_path / "other").iterdir())


# Eviction.


def test_eviction_takes_the_longest_stored_pdfs_and_nothing_else(
    open_: OpenStore, folder: Path
) -> None:
    store = open_(MIB)
    invoices = [invoice(f"invoice-{number:02}") for number in range(30)]
    store.save_namespaces(("system",))
    store.save_listing("system", Listing.of(invoices))
    contents = {each: content_of(pdf_of(each.name, IN_A_FILE)) for each in invoices}
    for each, content in contents.items():
        store.save(each, content)
    kept = [loaded(store, each) is not None for each in invoices]
    assert kept == sorted(kept)
    assert 5 <= sum(kept) <= 10
    assert sum(path.stat().st_size for path in value_files(folder)) <= MIB
    assert store.namespaces() == ("system",)
    assert store.listing("system") == Listing.of(invoices)
    assert all(store.record(each) == content.record for each, content in contents.items())


def test_metadata_is_kept_beyond_the_size_limit(open_: OpenStore) -> None:
    store = open_(MIB)
    listing = Listing.of([invoice(f"invoice-{number:05}") for number in range(6000)])
    namespaces = [f"n{number}" for number in range(8)]
    for namespace in namespaces:
        store.save_listing(namespace, listing)
    assert all(store.listing(namespace) for namespace in namespaces)


@pytest.mark.parametrize("size_limit_bytes", [0, 1, 50_000])
def test_a_limit_below_every_pdf_costs_caching_only(
    open_: OpenStore, size_limit_bytes: int
) -> None:
    store = open_(size_limit_bytes)
    content = content_of(pdf_of("", IN_A_FILE))
    for name in ("a", "b", "c"):
        store.save(invoice(name), content)
        assert store.record(invoice(name)) == content.record
        assert loaded(store, invoice(name)) in (None, content.pdf)


def test_a_smaller_limit_takes_effect_after_reopening(open_: OpenStore, folder: Path) -> None:
    roomy = open_(64 * MIB)
    for number in range(30):
        roomy.save(invoice(str(number)), content_of(pdf_of(str(number), IN_A_FILE)))
    roomy.close()
    tight = open_(MIB)
    for number in range(30, 60):
        tight.save(invoice(str(number)), content_of(pdf_of(str(number), IN_A_FILE)))
    assert sum(path.stat().st_size for path in value_files(folder)) <= MIB
    assert loaded(tight, invoice("59")) is not None


# Locks and full disks.


@contextmanager
def locked(folder: Path, cache: str) -> Iterator[None]:
    with connection(folder, cache) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        yield
        holder.execute("ROLLBACK")


@pytest.fixture
def _short_lock_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("invoicefs.store.disk_cache._LOCK_TIMEOUT_S", 0.01)


@both_caches
@sizes
@pytest.mark.usefixtures("_short_lock_timeout")
def test_a_locked_database_costs_caching_only(
    open_: OpenStore, folder: Path, cache: str, size_bytes: int
) -> None:
    clock = FakeClock()
    store = open_(clock=clock)
    use_for_everything(store)
    content = content_of(pdf_of("b", size_bytes))
    files = value_files(folder)
    with locked(folder, cache):
        store.save(invoice("b"), content)
        store.save_namespaces(("other",))
        assert loaded(store, invoice()) is not None
        if cache == "pdf":
            assert loaded(store, invoice("b")) is None
            assert value_files(folder) == files
        else:  # the record waits in memory
            assert loaded(store, invoice("b")) == content.pdf
    clock.advance(PAUSE_S)
    store.save(invoice("b"), content)
    assert loaded(store, invoice("b")) == content.pdf
    assert len(caches(folder, cache)) == 1


@pytest.mark.usefixtures("_short_lock_timeout")
def test_only_the_first_write_waits_for_a_lock(
    open_: OpenStore, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    store = open_(clock=clock)
    with locked(folder, "meta"):
        for _ in range(3):
            store.save_namespaces(("system",))
        assert len(caplog.messages) == 1
        clock.advance(PAUSE_S)
        for _ in range(3):
            store.save_namespaces(("system",))
    assert len(caplog.messages) == 2
    assert set(caplog.messages) == {
        f"The cache {folder} fails (another program has locked it):"
        " what it cannot keep is downloaded again."
    }


@pytest.mark.usefixtures("_short_lock_timeout")
def test_records_that_cannot_be_written_are_found_and_written_later(
    open_: OpenStore, folder: Path
) -> None:
    store = open_(clock=(clock := FakeClock()))
    with locked(folder, "meta"):
        store.save_records({invoice("a"): Record(1)})
        store.add_records({invoice("b"): Record(2)})
        assert store.records([invoice("a"), invoice("b")]).values()
        assert (store.record(invoice("a")), store.record(invoice("b"))) == (Record(1), Record(2))
        assert open_().record(invoice("a")) is None
    clock.advance(PAUSE_S)
    store.close()
    later = open_()
    assert later.records([invoice("a"), invoice("b")]) == {
        invoice("a"): Record(1),
        invoice("b"): Record(2),
    }


@pytest.mark.usefixtures("_short_lock_timeout")
def test_a_first_record_that_waited_does_not_replace_an_earlier_one(
    open_: OpenStore, folder: Path
) -> None:
    with closing(open_()) as other:
        other.add_records({invoice(): Record(1)})
    store = open_(clock=(clock := FakeClock()))
    store.close()
    with closed_to_readers(folder, "meta"):
        store.add_records({invoice(): Record(2)})
        assert store.record(invoice()) == Record(2)
    clock.advance(PAUSE_S)
    store.save_records({invoice("other"): Record(3)})
    assert store.record(invoice()) == open_().record(invoice()) == Record(1)


@contextmanager
def closed_to_readers(folder: Path, cache: str) -> Iterator[None]:
    """Have a database for oneself alone; with a write-ahead log, plain locks let readers in."""
    with connection(folder, cache) as program:
        program.execute("PRAGMA locking_mode=EXCLUSIVE")
        program.execute("BEGIN IMMEDIATE")
        yield


@pytest.mark.usefixtures("_short_lock_timeout")
def test_only_the_first_read_waits_for_a_lock(
    open_: OpenStore, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    with closing(open_()) as other:
        use_for_everything(other)
    store = open_(clock=clock)
    store.close()
    with closed_to_readers(folder, "meta"):
        records = [store.record(invoice(str(number))) for number in range(3)]
        assert store.record(invoice()) is None
        assert not any(records)
        assert len(caplog.messages) == 1
    clock.advance(PAUSE_S)
    assert store.record(invoice()) is not None


@both_caches
@pytest.mark.usefixtures("_short_lock_timeout")
def test_a_store_that_is_locked_at_first_is_used_as_soon_as_it_is_free(
    open_: OpenStore, folder: Path, cache: str, caplog: pytest.LogCaptureFixture
) -> None:
    use_for_everything(open_())
    clock = FakeClock()
    with locked(folder, cache):
        store = open_(clock=clock)
        assert store.failure == "another program has locked it"
        assert loaded(store, invoice()) is None
        assert not caplog.messages  # who opens it has been told
        clock.advance(PAUSE_S)
        assert loaded(store, invoice()) is None
    assert len(caplog.messages) == 1
    clock.advance(PAUSE_S)
    assert loaded(store, invoice()) == pdf_of("", IN_A_FILE)
    assert store.failure is None
    assert len(caches(folder, cache)) == 1


@both_caches
@pytest.mark.usefixtures("_short_lock_timeout")
def test_a_lock_does_not_hold_up_opening(
    open_: OpenStore, folder: Path, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_().close()
    slept_s = 0.0

    def sleep(seconds: float) -> None:
        nonlocal slept_s
        slept_s += seconds

    monkeypatch.setattr("diskcache.core.time", SimpleNamespace(time=lambda: slept_s, sleep=sleep))
    with locked(folder, cache):
        store = open_()
        store.save_namespaces(("system",))
        loaded(store, invoice())
    assert slept_s < 10


@contextmanager
def no_file_grows_beyond(size_bytes: int) -> Iterator[None]:
    """Let writes fail as on a full disk, for root too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_pdf_that_does_not_fit_on_the_disk_leaves_nothing_behind(
    store: Store, folder: Path
) -> None:
    use_for_everything(store)
    before = sorted(folder.rglob("*"))
    content = content_of(pdf_of("b", 10 * IN_A_FILE))
    with no_file_grows_beyond(5 * IN_A_FILE):
        store.save(invoice("b"), content)
    assert sorted(folder.rglob("*")) == before
    assert loaded(store, invoice("b")) is None
    assert loaded(store, invoice()) is not None
    store.save(invoice("b"), content)
    assert loaded(store, invoice("b")) == content.pdf


def test_a_listing_that_does_not_fit_on_the_disk_leaves_the_last_one(store: Store) -> None:
    """The journal is full first; the listing is too long for the cache's usual rows."""
    listing = Listing.of([invoice(f"invoice-{number:04}") for number in range(1000)])
    store.save_listing("system", listing)
    for number in range(200):
        store.save_records({invoice(str(number)): Record(number)})
    with no_file_grows_beyond(2 * IN_A_FILE):
        store.save_listing("system", Listing.of([*listing.invoices, invoice("new")]))
        assert store.listing("system") == listing
    assert store.listing("system") == listing


def test_a_full_disk_is_no_damage(store: Store, folder: Path) -> None:
    use_for_everything(store)
    with no_file_grows_beyond(database(folder, "meta").stat().st_size):
        for number in range(100):
            store.save(invoice(f"lost {number}"), content_of(pdf_of(str(number), 1000)))
            store.save_listing(f"lost {number}", Listing((invoice(),)))
        assert store.namespaces() == ("system",)
        assert loaded(store, invoice()) is not None
    assert len(caches(folder, "meta")) == len(caches(folder, "pdf")) == 1
    use_for_everything(store)


def test_a_full_disk_is_no_damage_for_a_write_that_is_larger_than_the_memory_for_it(
    store: Store, folder: Path
) -> None:
    """SQLite takes back such a write by itself; when diskcache does it once more, that fails."""
    use_for_everything(store)
    huge = Listing.of([replace(invoice(str(number)), currency="x" * MIB) for number in range(50)])
    with no_file_grows_beyond(20 * MIB):
        store.save_listing("huge", huge)
    assert not store.has_saved_listing("huge", huge)
    assert len(caches(folder, "meta")) == 1
    use_for_everything(store)


# Many at once.


def test_two_stores_on_one_folder_serve_many_threads(open_: OpenStore) -> None:
    stores = [open_(), open_()]
    versions = [content_of(pdf_of(str(number), 50_000), f"v{number}") for number in range(3)]
    listings = [
        Listing.of([invoice(f"{number}-{each}") for each in range(5)]) for number in range(3)
    ]
    turns = iter(range(6))

    def use() -> None:
        turn = next(turns)
        mine, others = stores[turn % 2], stores[(turn + 1) % 2]
        for round_ in range(8):
            number = (turn + round_) % 3
            own = content_of(pdf_of(f"{turn} {round_}", 50_000))
            mine.save(invoice("shared"), versions[number])
            mine.save_listing("system", listings[number])
            mine.save(invoice(f"own-{turn}"), own)
            for store in (mine, others):
                assert store.listing("system") in listings
                assert store.record(invoice("shared")) in [each.record for each in versions]
                assert loaded(store, invoice("shared")) in [each.pdf for each in versions]
                assert loaded(store, invoice(f"own-{turn}")) == own.pdf
        mine.close()
        others.close()

    crowd(use, threads=6)


class SlowValues(UserDict[str, str | bytes]):
    """Values that take a while to write."""

    def __init__(self, **values: str | bytes) -> None:
        super().__init__(values)
        self.is_written = threading.Event()
        self.may_end = threading.Event()

    def items(self) -> ItemsView[str, str | bytes]:
        self.is_written.set()
        assert self.may_end.wait(20)
        return super().items()


@pytest.mark.usefixtures("_short_lock_timeout")
def test_writers_of_one_mount_wait_for_each_other_and_do_not_give_up(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLite's own waiting is unfair: one of many may wait until its time is over."""
    cache = DiskCache(folder, "cache", SystemClock())
    slow = SlowValues(slow="1")
    with threads_that_use(cache, 2) as threads:
        first = threads.submit(cache.set, slow)
        assert slow.is_written.wait(20)
        second = threads.submit(cache.set, {"quick": "2"})
        wait([second], timeout=0.2)  # long enough for it to give up, if it did
        slow.may_end.set()
        assert first.result(20)
        assert second.result(20)
    assert (cache.get("slow"), cache.get("quick")) == ("1", "2")
    assert not caplog.messages
    cache.close()


def test_what_goes_while_it_is_judged_is_not_damaged(folder: Path) -> None:
    with (
        closing(DiskCache(folder, "cache", SystemClock())) as cache,
        closing(DiskCache(folder, "cache", SystemClock())) as other,
    ):
        cache.set({"stays": "1", "damaged": "2", "goes": "3"})

        def is_whole(key: str, value: object) -> bool:
            if key == "goes":
                other.remove(key)
            return (key, value) == ("stays", "1")

        assert cache.judge(is_whole) == {"stays": True, "damaged": False}
        assert cache.remove("goes")


def test_what_cannot_be_read_now_is_not_damaged(
    open_: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = open_()
    use_for_everything(one)
    assert one.remove_corrupt(is_dry=False) == (1, 0)

    def locked(*_: object, **__: object) -> None:
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise error

    with monkeypatch.context() as patched:  # readers of a WAL are hardly ever locked out for real
        patched.setattr("diskcache.Cache.get", locked)
        assert one.remove_corrupt(is_dry=False) is None
    assert open_().remove_corrupt(is_dry=False) == (1, 0)


def test_what_one_store_keeps_the_other_finds(open_: OpenStore) -> None:
    one, other = open_(), open_()
    assert other.record(invoice()) is None
    assert other.listing("system") is None
    use_for_everything(one)
    assert loaded(other, invoice()) is not None
    assert other.listing("system") == Listing((invoice(),))
    assert other.namespaces() == ("system",)


def test_threads_may_open_one_new_folder_together(folder: Path) -> None:
    def use() -> None:
        with closing(open_store(folder, MIB, SystemClock())) as store:
            use_for_everything(store)

    crowd(use, threads=4)


def test_log_lines_hold_no_content(
    store: Store, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "1234567"
    store.save_listing("system", Listing((Invoice("system", "a", amount=secret),)))
    ((row, value),) = stored_values(folder, "meta").items()
    for damage in (b"\xff", b"[", b"{"):
        put_values(folder, "meta", {row: damage + value})
        assert store.listing("system") is None
    assert secret not in caplog.text


def test_half_a_pdf_that_an_earlier_version_kept_is_a_miss(store: Store) -> None:
    half = content_of(pdf_of("half", IN_A_FILE)[: IN_A_FILE // 2])
    store.save(Invoice("system", "half"), half)

    assert half.record.content is not None
    assert store.pdf(half.record.content) is None
    assert store.remove_corrupt(is_dry=True) == (0, 1)
