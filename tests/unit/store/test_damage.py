"""What the store does not trust: damaged, planted and foreign data in its folder."""

import errno
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import diskcache
import pytest

from invoicefs.model import AccessKey, Listing, Record
from invoicefs.store.backoffs import BACKOFF_S
from invoicefs.store.store import Store
from tests.support.fake_clock import FakeClock
from tests.support.fake_tenant import pdf_of
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

REPOSITORY = Path(__file__).parents[3]
LONG_LISTING = Listing.of([invoice(f"{number:05}", "long") for number in range(2000)])

CACHES = ("pdf", "meta")

both_caches = pytest.mark.parametrize("cache", CACHES)

Damage = Callable[[bytes], bytes]


# Damaged values.


def flip_a_bit(value: bytes) -> bytes:
    middle = len(value) // 2
    return value[:middle] + bytes([value[middle] ^ 1]) + value[middle + 1 :]


def set_a_high_bit(value: bytes) -> bytes:
    """Make a text invalid as UTF-8."""
    return bytes([value[0] ^ 0x80]) + value[1:]


damages = pytest.mark.parametrize("damage", [flip_a_bit, set_a_high_bit])


def damage_values(folder: Path, cache: str, damage: Damage) -> None:
    values = stored_values(folder, cache)
    assert values
    put_values(folder, cache, {row: damage(value) for row, value in values.items()})


@damages
def test_damaged_pdfs_are_misses(store: Store, folder: Path, damage: Damage) -> None:
    contents = {
        invoice("row"): content_of(pdf_of("row", IN_A_ROW)),
        invoice("file"): content_of(pdf_of("file", IN_A_FILE)),
    }
    for invoice_, content in contents.items():
        store.save(invoice_, content)
    damage_values(folder, "pdf", damage)
    for invoice_, content in contents.items():
        assert loaded(store, invoice_) is None
        store.save(invoice_, content)
        assert loaded(store, invoice_) == content.pdf


@damages
def test_add_records_replaces_a_damaged_record(store: Store, folder: Path, damage: Damage) -> None:
    """Otherwise an invoice without a period would get another mtime after every remount."""
    store.add_records({invoice(): Record(1)})
    damage_values(folder, "meta", damage)
    store.add_records({invoice(): Record(2)})
    assert store.record(invoice()) == Record(2)


def nothing(_: Path) -> None:
    pass


def device_of_zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def huge_file(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 38)


@pytest.mark.parametrize(
    "instead",
    [nothing, Path.mkdir, os.mkfifo, device_of_zeros, huge_file],
    ids=lambda instead: instead.__name__,
)
def test_a_missing_value_file_is_a_miss(
    store: Store, folder: Path, instead: Callable[[Path], None]
) -> None:
    content = content_of(pdf_of("", IN_A_FILE))
    store.save(invoice(), content)
    store.save_listing("long", LONG_LISTING)
    for value_file in value_files(folder):
        value_file.unlink()
        instead(value_file)
    assert loaded(store, invoice()) is None
    assert store.listing("long") in (None, LONG_LISTING)
    store.save(invoice(), content)
    assert loaded(store, invoice()) == content.pdf


METADATA = {
    "namespaces": ("first", "second"),
    "listing": Listing.of([invoice("a"), invoice("b")]),
    "record": content_of(pdf_of("a")).record,
}


def save_metadata(store: Store) -> None:
    store.save_namespaces(("first", "second"))
    store.save_listing("system", Listing.of([invoice("a"), invoice("b")]))
    store.save(invoice(), content_of(pdf_of("a")))


def found_metadata(store: Store) -> dict[str, object]:
    """Return the metadata that the store finds, by kind."""
    loads = {
        "namespaces": store.namespaces() or None,
        "listing": store.listing("system"),
        "record": store.record(invoice()),
    }
    return {kind: found for kind, found in loads.items() if found is not None}


BROKEN_ROWS = [
    "value = NULL",
    "value = 5, mode = 1",
    "value = x'00ff', mode = 1",
    "value = CAST(x'5bff5d' AS TEXT), mode = 1",  # not UTF-8
    "mode = NULL",
    "mode = 'x'",
    "mode = 0",
    "mode = 2, filename = NULL",
    "mode = 3, filename = NULL",
    "mode = 3, filename = ''",
    "mode = 3, filename = x'ff'",
    "mode = 3, filename = CAST(x'ff' AS TEXT)",
    "mode = 2, filename = 5",
    "mode = 2, filename = 'a.val'",
    "mode = 3, filename = 'aa/bb/00000000000000000000000000cc.val'",
    "raw = 0",
    "expire_time = 1",
    "expire_time = 'x'",
    "store_time = 'x', size = 'y', tag = x'00'",
]


@pytest.mark.parametrize("broken", BROKEN_ROWS)
def test_a_broken_row_of_metadata_is_a_miss(store: Store, folder: Path, broken: str) -> None:
    save_metadata(store)
    change_rows(folder, "meta", broken)
    assert found_metadata(store).items() <= METADATA.items()
    save_metadata(store)
    assert found_metadata(store) == METADATA


@pytest.mark.parametrize("broken", BROKEN_ROWS)
def test_a_broken_row_of_a_pdf_is_a_miss(open_: OpenStore, folder: Path, broken: str) -> None:
    """It does not stop the writes that replace or evict it either."""
    store = open_(MIB)
    row, file = content_of(pdf_of("row", IN_A_ROW)), content_of(pdf_of("file", IN_A_FILE))
    store.save(invoice("row"), row)
    store.save(invoice("file"), file)
    change_rows(folder, "pdf", broken)
    assert loaded(store, invoice("row")) in (None, row.pdf)
    assert loaded(store, invoice("file")) in (None, file.pdf)
    store.save(invoice("row"), row)
    assert loaded(store, invoice("row")) == row.pdf
    for number in range(15):
        last = content_of(pdf_of(str(number), IN_A_FILE))
        store.save(invoice("last"), last)
    assert loaded(store, invoice("last")) == last.pdf


@pytest.mark.parametrize(
    "setting",
    [
        "size_limit",
        "cull_limit",
        "eviction_policy",
        "statistics",
        "tag_index",
        "count",
        "size",
        "disk_min_file_size",
        "disk_pickle_protocol",
        "disk_unknown",
        "sqlite_journal_mode",
        "sqlite_x; DROP TABLE Cache",
        "unknown",
    ],
)
def test_planted_settings_do_no_harm(open_: OpenStore, folder: Path, setting: str) -> None:
    """Diskcache reads its settings from its database."""
    open_().close()
    for cache in CACHES:
        with connection(folder, cache) as rows:
            rows.execute("INSERT OR REPLACE INTO Settings VALUES (?, 'x')", (setting,))
    use_for_everything(open_())


# Pickle, and files outside.


class Bait:
    """Creates a folder when it is unpickled."""

    def __init__(self, trap: Path) -> None:
        self._trap = trap

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self._trap),)


def use_until_eviction(store: Store) -> None:
    store.namespaces()
    store.listing("system")
    loaded(store, invoice())
    store.save_namespaces(("system",))
    store.save_listing("system", Listing((invoice(),)))
    for number in range(15):  # enough for evictions
        store.save(invoice(str(number)), content_of(pdf_of(str(number), IN_A_FILE)))
    store.close()


def plant_in_the_row(folder: Path, cache: str, bait: bytes) -> None:
    change_rows(folder, cache, "mode = 4, filename = NULL, value = ?", bait)


def plant_in_a_file(folder: Path, cache: str, bait: bytes) -> None:
    value_file = database(folder, cache).parent / "aa" / "bb" / f"{'0' * 28}.val"
    value_file.parent.mkdir(parents=True)
    value_file.write_bytes(bait)
    name = str(value_file.relative_to(database(folder, cache).parent))
    change_rows(folder, cache, "mode = 4, value = NULL, filename = ?", name)


def plant_as_key(folder: Path, cache: str, bait: bytes) -> None:
    with connection(folder, cache) as rows:
        rows.execute("DELETE FROM Cache")
        rows.execute(
            "INSERT INTO Cache (key, raw, store_time, expire_time, mode, value)"
            " VALUES (?, 0, 1, 1, 1, 'x')",
            (bait,),
        )


def plant_as_tag(folder: Path, cache: str, bait: bytes) -> None:
    change_rows(folder, cache, "tag = ?", bait)


@both_caches
@pytest.mark.parametrize("plant", [plant_in_the_row, plant_in_a_file, plant_as_key, plant_as_tag])
def test_planted_pickle_is_never_loaded(
    open_: OpenStore,
    tmp_path: Path,
    folder: Path,
    cache: str,
    plant: Callable[[Path, str, bytes], None],
) -> None:
    trap = tmp_path / "sprung"
    before = open_(MIB)
    before.save_namespaces(("system",))
    before.save(invoice(), content_of(pdf_of("a")))
    plant(folder, cache, pickle.dumps(Bait(trap)))
    use_until_eviction(before)
    use_until_eviction(open_(MIB))
    assert not trap.exists()


def test_a_plain_diskcache_loads_the_planted_pickle(
    store: Store, tmp_path: Path, folder: Path
) -> None:
    """Check that the test above can fail."""
    trap = tmp_path / "sprung"
    store.save_namespaces(("system",))
    plant_in_the_row(folder, "meta", pickle.dumps(Bait(trap)))
    with diskcache.Cache(str(database(folder, "meta").parent)) as plain:
        assert [plain.get(key) for key in plain] == [None]
    assert trap.is_dir()


def test_nothing_is_stored_as_pickle(store: Store, folder: Path) -> None:
    use_until_eviction(store)
    for cache in CACHES:
        with connection(folder, cache) as rows:
            modes = rows.execute("SELECT DISTINCT mode, raw, typeof(key) FROM Cache").fetchall()
        assert modes
        assert all(mode in (1, 2, 3) and raw and kind == "text" for mode, raw, kind in modes)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file outside the store with exactly the bytes that the store looks for."""
    outside = tmp_path / "outside.val"
    outside.write_bytes(pdf_of("", IN_A_FILE))
    return outside


WAYS_OUT = [
    "../../outside.val",
    "aa/bb/../../../../outside.val",
    "aa/bb/00000000000000000000000000cc.val/../../../../../outside.val",
    "{absolute}",
    "../../outside.val\n",
    "../../outside.val\0",
]
ways_out = pytest.mark.parametrize("way_out", WAYS_OUT, ids=ascii)


def lead_out(folder: Path, outside: Path, cache: str, way_out: str, mode: int) -> None:
    (database(folder, cache).parent / "aa" / "bb").mkdir(parents=True, exist_ok=True)
    name = way_out.format(absolute=outside)
    change_rows(folder, cache, "mode = ?, value = NULL, filename = ?", mode, name)


@ways_out
def test_a_file_outside_the_folder_is_not_read(
    store: Store, folder: Path, outside: Path, way_out: str
) -> None:
    store.save(invoice(), content_of(pdf_of("", IN_A_FILE)))
    lead_out(folder, outside, "pdf", way_out, mode=2)
    assert loaded(store, invoice()) is None
    with connection(folder, "meta") as rows:
        rows.execute("DELETE FROM Cache")
    store.save_namespaces(("n",))
    (value,) = stored_values(folder, "meta").values()
    outside.write_bytes(value)
    for mode in (2, 3):
        lead_out(folder, outside, "meta", way_out, mode)
        assert store.namespaces() == ()


@ways_out
def test_a_file_outside_the_folder_is_not_deleted(
    open_: OpenStore, folder: Path, outside: Path, way_out: str
) -> None:
    store = open_(MIB)
    content = content_of(pdf_of("", IN_A_FILE))
    store.save(invoice(), content)
    lead_out(folder, outside, "pdf", way_out, mode=2)
    store.save(invoice(), content)  # in place of the planted row
    assert loaded(store, invoice()) == content.pdf
    lead_out(folder, outside, "pdf", way_out, mode=2)
    use_until_eviction(store)  # evicts the planted row
    assert outside.exists()


# Corrupt and foreign databases.


def garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 64)


def text(path: Path) -> None:
    path.write_text("this is no database\n")


def damaged_pages(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)


def damaged_header(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[:100] = bytes(100)
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    os.truncate(path, 5000)


def empty_database(path: Path) -> None:
    path.write_bytes(b"")


def no_database(path: Path) -> None:
    path.unlink()


def run_sql(path: Path, script: str) -> None:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as other:
        other.executescript(script)


def other_tables(path: Path) -> None:
    run_sql(path, "CREATE TABLE Other (a)")


def other_columns(path: Path) -> None:
    run_sql(path, "CREATE TABLE Cache (id INTEGER, data TEXT)")


def other_settings(path: Path) -> None:
    run_sql(path, "CREATE TABLE Settings (name TEXT, value TEXT, more TEXT)")


def view_for_a_table(path: Path) -> None:
    run_sql(path, "CREATE VIEW Cache AS SELECT 1 AS key, 1 AS raw")


def missing_columns(path: Path) -> None:
    run_sql(
        path,
        "CREATE TABLE Cache (rowid INTEGER PRIMARY KEY, key BLOB, raw INTEGER, store_time REAL,"
        " expire_time REAL, tag BLOB)",
    )


def additional_constraint(path: Path) -> None:
    run_sql(
        path,
        "CREATE TABLE Cache (rowid INTEGER PRIMARY KEY, key BLOB, raw INTEGER, store_time REAL,"
        " expire_time REAL, access_time REAL, access_count INTEGER, tag BLOB NOT NULL,"
        " size INTEGER, mode INTEGER, filename TEXT, value BLOB)",
    )


def future_format(path: Path) -> None:
    """Make SQLite treat a database as written by a later version, so as read-only."""
    with path.open("r+b") as file:
        file.seek(18)  # the "file format write version" in the header
        file.write(b"\3")


ALIEN_DATABASES = [
    garbage,
    text,
    damaged_pages,
    damaged_header,
    future_format,
    cut_short,
    other_columns,
    other_settings,
    view_for_a_table,
    missing_columns,
    additional_constraint,
]


def replace_databases(folder: Path, alien: Callable[[Path], None]) -> None:
    """Replace databases that are not in use."""
    for cache in CACHES:
        path = database(folder, cache)
        for journal in path.parent.glob("cache.db-*"):
            journal.unlink()
        alien(path)


def reopened_with(alien: Callable[[Path], None], open_: OpenStore, folder: Path) -> Store:
    """Open a store that was used for everything, and whose databases were replaced since."""
    first = open_()
    use_for_everything(first)
    first.close()
    replace_databases(folder, alien)
    second = open_()
    assert loaded(second, invoice()) is None
    return second


def count_damage_reports(caplog: pytest.LogCaptureFixture) -> int:
    return sum("damaged" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("alien", ALIEN_DATABASES)
def test_an_unusable_database_is_set_aside(
    open_: OpenStore,
    folder: Path,
    alien: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    second = reopened_with(alien, open_, folder)
    second.save_namespaces(("lost",))  # may be the first to find the damage
    second.save(invoice("lost"), content_of(pdf_of("lost")))
    use_for_everything(second)
    second.close()
    assert count_damage_reports(caplog) == 2
    for cache in CACHES:
        set_aside, _ = caches(folder, cache)
        assert (set_aside / "cache.db").exists()
    caplog.clear()
    assert loaded(open_(), invoice()) is not None
    assert not caplog.records


@pytest.mark.parametrize("alien", [empty_database, other_tables, no_database])
def test_an_empty_or_missing_database_is_created_again(
    open_: OpenStore,
    folder: Path,
    alien: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    second = reopened_with(alien, open_, folder)
    use_for_everything(second)
    second.close()
    assert count_damage_reports(caplog) <= 2
    assert loaded(open_(), invoice()) is not None


@pytest.mark.parametrize("at_the_path", ["database", "cache"])
def test_a_folder_or_file_in_the_way_only_prevents_caching(
    open_: OpenStore, folder: Path, at_the_path: str
) -> None:
    folder.mkdir(mode=0o700)
    for cache in CACHES:
        if at_the_path == "database":
            (folder / f"{cache}-1" / "cache.db").mkdir(parents=True)
        else:
            (folder / f"{cache}-1").touch()
    store = open_()
    store.save_namespaces(("system",))
    store.save_listing("system", Listing((invoice(),)))
    store.save(invoice(), content_of(pdf_of("a")))
    assert store.namespaces() in ((), ("system",))
    assert store.listing("system") in (None, Listing((invoice(),)))
    assert loaded(store, invoice()) in (None, pdf_of("a"))


def overwrite_in_use(folder: Path) -> None:
    """Overwrite open databases, with everything that is still in a journal."""
    for cache in CACHES:
        path = database(folder, cache)
        with connection(folder, cache) as rows:
            rows.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size_bytes = path.stat().st_size
        with path.open("r+b") as file:
            file.write(b"\xa5" * size_bytes)


def drop_tables(folder: Path) -> None:
    for cache in CACHES:
        with connection(folder, cache) as rows:
            rows.execute("DROP TABLE Cache")


in_use = pytest.mark.parametrize("break_it", [overwrite_in_use, drop_tables])


def read_both(store: Store) -> tuple[Record | None, bytes | None]:
    """Return the record and the PDF that `use_for_everything` has saved."""
    facts = content_of(pdf_of("", IN_A_FILE)).record.content
    assert facts is not None
    return store.record(invoice()), store.pdf(facts)


@in_use
def test_a_database_corrupted_in_use_is_set_aside(
    open_: OpenStore,
    folder: Path,
    break_it: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = open_()
    use_for_everything(store)
    break_it(folder)
    assert read_both(store)[0] is None
    use_for_everything(store)
    assert count_damage_reports(caplog) == 2
    assert [len(caches(folder, cache)) for cache in CACHES] == [2, 2]
    store.close()
    assert loaded(open_(), invoice()) is not None


@in_use
def test_threads_that_find_damage_together_create_one_new_database(
    open_: OpenStore,
    folder: Path,
    break_it: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = open_()
    with threads_that_use(store, 8) as threads:

        def all_at_once(action: Callable[[], object]) -> list[object]:
            barrier = threading.Barrier(8, timeout=20)

            def together() -> object:
                barrier.wait()
                return action()

            futures = [threads.submit(together) for _ in range(8)]
            return [future.result(20) for future in futures]

        use_for_everything(store)
        found = read_both(store)
        assert set(all_at_once(lambda: read_both(store))) == {found}
        break_it(folder)
        # The file of a PDF that was verified is still whole, and may be read.
        assert set(all_at_once(lambda: read_both(store)[0])) == {None}
        use_for_everything(store)
        assert set(all_at_once(lambda: read_both(store))) == {found}
    assert count_damage_reports(caplog) == 2
    assert [len(caches(folder, cache)) for cache in CACHES] == [2, 2]


@in_use
def test_two_mounts_that_find_damage_share_the_new_database(
    open_: OpenStore, folder: Path, break_it: Callable[[Path], None]
) -> None:
    one, other = open_(), open_()
    use_for_everything(one)
    use_for_everything(other)
    break_it(folder)
    assert read_both(one)[0] is read_both(other)[0] is None
    one.save(invoice("b"), content_of(pdf_of("b")))
    other.save(invoice("c"), content_of(pdf_of("c")))
    assert loaded(other, invoice("b")) == pdf_of("b")
    assert loaded(one, invoice("c")) == pdf_of("c")


def test_lists_are_saved_again_in_the_new_database(open_: OpenStore, folder: Path) -> None:
    store = open_()
    use_for_everything(store)
    listing = store.listing("system")
    overwrite_in_use(folder)
    store.record(invoice())  # finds the damage
    later = open_()
    assert later.namespaces() == ("system",)
    assert later.listing("system") == listing


def test_verdicts_and_the_fingerprint_key_are_saved_again_in_the_new_database(
    open_: OpenStore, folder: Path
) -> None:
    access = AccessKey("fingerprint", "pdf", "system")
    first = open_()
    first.fingerprint_key(b"first")
    first.save_verdicts({access: "allowed"})
    store = open_()
    assert store.fingerprint_key(b"another") == b"first"
    assert store.verdict(access) == "allowed"
    overwrite_in_use(folder)
    store.record(invoice())  # finds the damage
    later = open_()
    assert later.fingerprint_key(b"another") == b"first"
    assert later.verdict(access) == "allowed"


def test_lists_saved_by_another_mount_stay_in_the_new_database(
    open_: OpenStore, folder: Path
) -> None:
    one, other = open_(clock=(clock := FakeClock())), open_()
    use_for_everything(one)
    overwrite_in_use(folder)
    other.save_namespaces(("others",))  # finds the damage
    clock.advance(BACKOFF_S)
    one.save_records({invoice(): Record(1)})  # moves on to the new database
    assert open_().namespaces() == ("others",)


def test_a_mount_moves_on_to_the_new_database_of_another(open_: OpenStore, folder: Path) -> None:
    one, other = open_(), open_(clock=(clock := FakeClock()))
    use_for_everything(other)
    overwrite_in_use(folder)
    read_both(one)  # finds the damage
    clock.advance(BACKOFF_S)
    other.save(invoice("b"), content_of(pdf_of("b")))
    later = open_()
    assert loaded(later, invoice("b")) == pdf_of("b")
    assert later.namespaces() == ("system",)


@pytest.mark.parametrize("break_it", [None, overwrite_in_use])
def test_a_folder_that_cannot_be_listed_only_prevents_caching(
    open_: OpenStore,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    break_it: Callable[[Path], None] | None,
) -> None:
    store = open_(clock=(clock := FakeClock()))
    use_for_everything(store)
    if break_it:
        break_it(folder)

    def fail(_: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(Path, "iterdir", fail)
        clock.advance(BACKOFF_S)
        for broken_store in (store, open_()):
            broken_store.save(invoice("b"), content_of(pdf_of("b")))
            broken_store.namespaces()
            loaded(broken_store, invoice("b"))
    clock.advance(BACKOFF_S)
    use_for_everything(store)


def test_databases_set_aside_do_not_accumulate(open_: OpenStore, folder: Path) -> None:
    for _ in range(5):
        store = open_()
        use_for_everything(store)
        overwrite_in_use(folder)
        read_both(store)
        use_for_everything(store)
        store.close()
    assert max(len(caches(folder, cache)) for cache in CACHES) <= 2


def test_a_deleted_folder_only_prevents_caching(store: Store, folder: Path) -> None:
    use_for_everything(store)
    shutil.rmtree(folder)
    with threads_that_use(store, 1) as another_thread:
        for _ in range(2):
            use_until_eviction(store)
            another_thread.submit(use_until_eviction, store).result(20)


CUT_IN_USE = """
import os, pathlib, sys
from invoicefs.clock import SystemClock
from invoicefs.model import Invoice, Record
from invoicefs.store.store import open_store

folder = pathlib.Path(sys.argv[1])
store = open_store(folder, 1 << 20, SystemClock())
invoices = [Invoice("system", str(number)) for number in range(2000)]
for invoice in invoices:
    store.save_records({invoice: Record(1)})
os.truncate(folder / "meta-1" / "cache.db", int(sys.argv[2]))
for invoice in invoices:
    store.record(invoice)
store.save_records({invoices[0]: Record(2)})
store.close()
print("alive")
"""


@pytest.mark.parametrize("left_bytes", [0, 5000])
def test_truncating_a_database_in_use_does_not_kill_the_process(
    folder: Path, left_bytes: int
) -> None:
    """With the file mapped into its memory, the process would get SIGBUS."""
    ended = subprocess.run(
        [sys.executable, "-c", CUT_IN_USE, str(folder), str(left_bytes)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "alive\n"), ended.stderr
