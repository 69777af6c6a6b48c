"""The store in real folders: what it saves, where, with which permissions, and failures.

Damaged, planted and foreign data is in `test_damage`.
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

from invoicefs.clock import SystemClock
from invoicefs.errors import StoreUnusable
from invoicefs.model import Content, Invoice, Listing, Record
from invoicefs.store.backoffs import BACKOFF_S
from invoicefs.store.disk_cache import DiskCache
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
    change_rows,
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


# Values.


def test_namespaces_are_returned_in_order(store: Store) -> None:
    store.save_namespaces(tuple(ODD_NAMES))
    assert store.namespaces() == tuple(ODD_NAMES)
    store.save_namespaces(("b", "a"))
    assert store.namespaces() == ("b", "a")


@odd_names
def test_invoices_with_any_name_are_found(store: Store, name: str) -> None:
    full = Invoice(name, name, True, name, name, name, name, name)
    listing = Listing.of([full, Invoice(name, "other")])
    content = content_of(pdf_of(name))
    store.save_listing(name, listing)
    store.save(full, content)
    assert store.listing(name) == listing
    assert store.record(full) == content.record
    assert loaded(store, full) == content.pdf


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
def test_similar_names_are_not_confused(
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


def test_listings_records_and_namespaces_are_not_confused(store: Store) -> None:
    store.save_namespaces(("n",))
    store.save_records({invoice("namespaces", "listing"): Record(1)})
    store.save_listing("namespaces", Listing((invoice(namespace="namespaces"),)))
    assert store.namespaces() == ("n",)
    assert store.record(invoice("namespaces", "listing")) == Record(1)


def test_an_empty_listing_is_not_a_miss(store: Store) -> None:
    store.save_listing("system", Listing())
    assert store.listing("system") == Listing()


@pytest.mark.parametrize("others", [0, 50], ids=["most are requested", "few are requested"])
def test_several_records_are_found_in_one_call(store: Store, others: int) -> None:
    known = {invoice(f"known-{number}"): Record(number) for number in range(3)}
    store.save_records({**known, **{invoice(f"other-{n}"): Record(1) for n in range(others)}})
    assert store.records([*known, *(invoice(f"new-{number}") for number in range(5))]) == known
    assert store.records([]) == {}


def test_a_record_without_content_can_be_saved_with_a_pdf(store: Store) -> None:
    store.save(invoice(), Content(Record(7), pdf_of("a")))
    assert store.record(invoice()) == Record(7)


def test_two_versions_of_a_pdf_are_both_found(store: Store) -> None:
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


# Folders and permissions.


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_no_other_user_can_read_the_store(open_: OpenStore, folder: Path, umask: int) -> None:
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


def test_a_folder_readable_by_others_gets_mode_0700(open_: OpenStore, folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)
    open_()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.promise(
    "A cache that belongs to another user, or that others could write to or replace, is not used."
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
    "A cache that belongs to another user, or that others could write to or replace, is not used."
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


def test_opening_creates_only_the_two_caches(open_: OpenStore, folder: Path) -> None:
    open_()
    assert [path.name for path in sorted(folder.iterdir())] == ["meta-1", "pdf-1"]


def test_variables_in_the_folder_are_not_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Diskcache expands them."""
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


def test_each_url_has_its_own_folder(tmp_path: Path) -> None:
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
    return Path("/proc/invoicefs")  # cannot be created, not even by root


def unwritable_folder(_: Path) -> Path:
    return Path(f"/proc/{os.getpid()}/fd")  # exists, is ours, and cannot be written to


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
    "A cache that belongs to another user, or that others could write to or replace, is not used."
)
def test_a_folder_of_another_user_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    folder.chmod(0o755)
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StoreUnusable, match="another user"):
        open_store(folder, MIB, SystemClock())
    assert not list(folder.iterdir())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_a_symlink_to_a_folder_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to("other")
    with pytest.raises(StoreUnusable, match="it is a symbolic link"):
        open_store(tmp_path / "link", MIB, SystemClock())
    assert not list((tmp_path / "other").iterdir())


# Eviction.


def test_only_the_least_recently_stored_pdfs_are_evicted(open_: OpenStore, folder: Path) -> None:
    store = open_(MIB)
    invoices = [invoice(f"invoice-{number:02}") for number in range(30)]
    store.save_namespaces(("system",))
    store.save_listing("system", Listing.of(invoices))
    contents = {saved: content_of(pdf_of(saved.name, IN_A_FILE)) for saved in invoices}
    for saved, content in contents.items():
        store.save(saved, content)
    kept = [loaded(store, saved) is not None for saved in invoices]
    assert kept == sorted(kept)
    assert 5 <= sum(kept) <= 10
    assert sum(path.stat().st_size for path in value_files(folder)) <= MIB
    assert store.namespaces() == ("system",)
    assert store.listing("system") == Listing.of(invoices)
    assert all(store.record(saved) == content.record for saved, content in contents.items())


def test_files_of_earlier_versions_are_found_and_evicted(open_: OpenStore, folder: Path) -> None:
    content = content_of(pdf_of("a", IN_A_FILE))
    open_().save(invoice(), content)
    (file,) = value_files(folder)
    name = f"{file.name[:2]}/{file.name[2:4]}/{file.name[4:]}"
    (file.parent / name).parent.mkdir(parents=True)
    file.rename(file.parent / name)
    change_rows(folder, "pdf", "filename = ?", name)
    store = open_()
    assert loaded(store, invoice()) == content.pdf
    assert store.clear(everything=False)
    assert value_files(folder) == []


def test_metadata_is_not_subject_to_the_size_limit(open_: OpenStore) -> None:
    store = open_(MIB)
    listing = Listing.of([invoice(f"invoice-{number:05}") for number in range(6000)])
    namespaces = [f"n{number}" for number in range(8)]
    for namespace in namespaces:
        store.save_listing(namespace, listing)
    assert all(store.listing(namespace) for namespace in namespaces)


@pytest.mark.parametrize("size_limit_bytes", [0, 1, 50_000])
def test_a_size_limit_below_every_pdf_only_prevents_caching(
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
def test_a_locked_database_only_prevents_caching(
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
        else:  # the record waits in memory to be written
            assert loaded(store, invoice("b")) == content.pdf
    clock.advance(BACKOFF_S)
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
        clock.advance(BACKOFF_S)
        for _ in range(3):
            store.save_namespaces(("system",))
    assert len(caplog.messages) == 2
    assert set(caplog.messages) == {
        f"The cache {folder} fails (another program has locked it):"
        " values that cannot be cached are downloaded again."
    }


@pytest.mark.usefixtures("_short_lock_timeout")
def test_unwritten_records_are_found_and_written_later(open_: OpenStore, folder: Path) -> None:
    store = open_(clock=(clock := FakeClock()))
    with locked(folder, "meta"):
        store.save_records({invoice("a"): Record(1)})
        store.add_records({invoice("b"): Record(2)})
        assert store.records([invoice("a"), invoice("b")]).values()
        assert (store.record(invoice("a")), store.record(invoice("b"))) == (Record(1), Record(2))
        assert open_().record(invoice("a")) is None
    clock.advance(BACKOFF_S)
    store.close()
    later = open_()
    assert later.records([invoice("a"), invoice("b")]) == {
        invoice("a"): Record(1),
        invoice("b"): Record(2),
    }


@pytest.mark.usefixtures("_short_lock_timeout")
def test_add_records_does_not_replace_a_record_once_unlocked(
    open_: OpenStore, folder: Path
) -> None:
    with closing(open_()) as other:
        other.add_records({invoice(): Record(1)})
    store = open_(clock=(clock := FakeClock()))
    store.close()
    with closed_to_readers(folder, "meta"):
        store.add_records({invoice(): Record(2)})
        assert store.record(invoice()) == Record(2)
    clock.advance(BACKOFF_S)
    store.save_records({invoice("other"): Record(3)})
    assert store.record(invoice()) == open_().record(invoice()) == Record(1)


@contextmanager
def closed_to_readers(folder: Path, cache: str) -> Iterator[None]:
    """Lock a database for readers too; with a write-ahead log, plain locks let them in."""
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
    clock.advance(BACKOFF_S)
    assert store.record(invoice()) is not None


@both_caches
@pytest.mark.usefixtures("_short_lock_timeout")
def test_a_store_locked_when_opened_is_used_once_unlocked(
    open_: OpenStore, folder: Path, cache: str, caplog: pytest.LogCaptureFixture
) -> None:
    use_for_everything(open_())
    clock = FakeClock()
    with locked(folder, cache):
        store = open_(clock=clock)
        assert store.failure == "another program has locked it"
        assert loaded(store, invoice()) is None
        assert not caplog.messages  # the caller has `failure`
        clock.advance(BACKOFF_S)
        assert loaded(store, invoice()) is None
    assert len(caplog.messages) == 1
    clock.advance(BACKOFF_S)
    assert loaded(store, invoice()) == pdf_of("", IN_A_FILE)
    assert store.failure is None
    assert len(caches(folder, cache)) == 1


@both_caches
@pytest.mark.usefixtures("_short_lock_timeout")
def test_a_locked_database_does_not_delay_opening(
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
    """Make writes fail as on a full disk, for root too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_pdf_too_large_for_the_disk_leaves_no_files(store: Store, folder: Path) -> None:
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


def test_a_listing_too_large_for_the_disk_keeps_the_last_one(store: Store) -> None:
    """The write-ahead log fails first; the listing is longer than values in rows usually are."""
    listing = Listing.of([invoice(f"invoice-{number:04}") for number in range(1000)])
    store.save_listing("system", listing)
    for number in range(200):
        store.save_records({invoice(str(number)): Record(number)})
    with no_file_grows_beyond(2 * IN_A_FILE):
        store.save_listing("system", Listing.of([*listing.invoices, invoice("new")]))
        assert store.listing("system") == listing
    assert store.listing("system") == listing


def test_a_full_disk_is_not_treated_as_damage(store: Store, folder: Path) -> None:
    use_for_everything(store)
    with no_file_grows_beyond(database(folder, "meta").stat().st_size):
        for number in range(100):
            store.save(invoice(f"lost {number}"), content_of(pdf_of(str(number), 1000)))
            store.save_listing(f"lost {number}", Listing((invoice(),)))
        assert store.namespaces() == ("system",)
        assert loaded(store, invoice()) is not None
    assert len(caches(folder, "meta")) == len(caches(folder, "pdf")) == 1
    use_for_everything(store)


def test_a_full_disk_during_a_huge_write_is_not_treated_as_damage(
    store: Store, folder: Path
) -> None:
    """SQLite rolls back such a write by itself, so that diskcache fails to roll it back."""
    use_for_everything(store)
    huge = Listing.of([replace(invoice(str(number)), currency="x" * MIB) for number in range(50)])
    with no_file_grows_beyond(20 * MIB):
        store.save_listing("huge", huge)
    assert not store.has_saved_listing("huge", huge)
    assert len(caches(folder, "meta")) == 1
    use_for_everything(store)


# Concurrent use.


def test_many_threads_share_two_stores_in_one_folder(open_: OpenStore) -> None:
    stores = [open_(), open_()]
    versions = [content_of(pdf_of(str(number), 50_000), f"v{number}") for number in range(3)]
    listings = [
        Listing.of([invoice(f"{number}-{place}") for place in range(5)]) for number in range(3)
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
                assert store.record(invoice("shared")) in [version.record for version in versions]
                assert loaded(store, invoice("shared")) in [version.pdf for version in versions]
                assert loaded(store, invoice(f"own-{turn}")) == own.pdf
        mine.close()
        others.close()

    crowd(use, threads=6)


class SlowValues(UserDict[str, str | bytes]):
    """Values that a write waits for, until `may_end` is set."""

    def __init__(self, **values: str | bytes) -> None:
        super().__init__(values)
        self.is_written = threading.Event()
        self.may_end = threading.Event()

    def items(self) -> ItemsView[str, str | bytes]:
        self.is_written.set()
        assert self.may_end.wait(20)
        return super().items()


@pytest.mark.usefixtures("_short_lock_timeout")
def test_writers_of_one_mount_wait_for_each_other(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLite's own queue is unfair: one of many writers may wait until it times out."""
    cache = DiskCache(folder, "cache", SystemClock())
    slow = SlowValues(slow="1")
    with threads_that_use(cache, 2) as threads:
        first = threads.submit(cache.set, slow)
        assert slow.is_written.wait(20)
        second = threads.submit(cache.set, {"quick": "2"})
        wait([second], timeout=0.2)  # longer than the lock timeout
        slow.may_end.set()
        assert first.result(20)
        assert second.result(20)
    assert (cache.get("slow"), cache.get("quick")) == ("1", "2")
    assert not caplog.messages
    cache.close()


def test_a_value_removed_while_it_is_verified_is_not_corrupt(folder: Path) -> None:
    with (
        closing(DiskCache(folder, "cache", SystemClock())) as cache,
        closing(DiskCache(folder, "cache", SystemClock())) as other,
    ):
        cache.set({"whole": "1", "corrupt": "2", "removed": "3"})

        def is_whole(key: str, value: object) -> bool:
            if key == "removed":
                other.remove(key)
            return (key, value) == ("whole", "1")

        assert cache.validate(is_whole) == {"whole": True, "corrupt": False}
        assert cache.remove("removed")


def test_pdfs_that_cannot_be_read_now_are_not_removed_as_corrupt(
    open_: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = open_()
    use_for_everything(one)
    assert one.remove_corrupt(is_dry=False) == (1, 0)

    def locked(*_: object, **__: object) -> None:
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise error

    with monkeypatch.context() as patched:  # a WAL hardly ever locks out readers
        patched.setattr("diskcache.Cache.get", locked)
        assert one.remove_corrupt(is_dry=False) is None
    assert open_().remove_corrupt(is_dry=False) == (1, 0)


def test_a_store_finds_what_another_has_saved(open_: OpenStore) -> None:
    one, other = open_(), open_()
    assert other.record(invoice()) is None
    assert other.listing("system") is None
    use_for_everything(one)
    assert loaded(other, invoice()) is not None
    assert other.listing("system") == Listing((invoice(),))
    assert other.namespaces() == ("system",)


def test_threads_can_open_a_new_folder_at_the_same_time(folder: Path) -> None:
    def use() -> None:
        with closing(open_store(folder, MIB, SystemClock())) as store:
            use_for_everything(store)

    crowd(use, threads=4)


def test_log_lines_contain_no_invoice_data(
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


def test_half_a_pdf_saved_by_an_earlier_version_is_a_miss(store: Store) -> None:
    half = content_of(pdf_of("half", IN_A_FILE)[: IN_A_FILE // 2])
    store.save(Invoice("system", "half"), half)

    assert half.record.content is not None
    assert store.pdf(half.record.content) is None
    assert store.remove_corrupt(is_dry=True) == (0, 1)
