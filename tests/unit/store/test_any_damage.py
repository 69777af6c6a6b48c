"""After any damage to its files the store returns exact values or misses, and stays usable.

Hand-picked damage, with the expected outcome of each kind, is in `test_damage`.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from invoicefs.clock import SystemClock
from invoicefs.model import Listing, Record
from invoicefs.store.store import Store, open_store
from tests.support.fake_tenant import pdf_of
from tests.support.store_folder import IN_A_FILE, IN_A_ROW, MIB, content_of, invoice

LISTING = Listing.of([invoice(name) for name in ("row", "file", "seen")])
CONTENTS = {
    invoice("row"): content_of(pdf_of("row", IN_A_ROW)),
    invoice("file"): content_of(pdf_of("file", IN_A_FILE)),
}
SEEN = Record(3)
SAVED = {
    "namespaces": ("system", "other"),
    "listing": LISTING,
    "seen": SEEN,
    **{f"record {saved.name}": content.record for saved, content in CONTENTS.items()},
    **{f"pdf {saved.name}": content.pdf for saved, content in CONTENTS.items()},
}

# Parts of keys, PDFs, listings and records.
WORDS = [(b"/row", b"/now"), (b"%%", b"%&"), (b"false", b"true "), (b", 17]", b", 18]")]

Damage = Callable[[list[Path]], None]


def overwritten(file: int, place: int, data: bytes) -> Damage:
    def damage(files: list[Path]) -> None:
        with chosen(files, file).open("r+b") as opened:
            opened.seek(place % max(1, opened.seek(0, os.SEEK_END)))
            opened.write(data)

    return damage


def reworded(file: int, words: tuple[bytes, bytes]) -> Damage:
    """Replace words in a file by others of the same length, so that a database stays valid."""

    def damage(files: list[Path]) -> None:
        path = chosen(files, file)
        path.write_bytes(path.read_bytes().replace(*words))

    return damage


def cut(file: int, length: int) -> Damage:
    def damage(files: list[Path]) -> None:
        path = chosen(files, file)
        os.truncate(path, length % (path.stat().st_size + 1))

    return damage


def deleted(file: int) -> Damage:
    return lambda files: chosen(files, file).unlink()


def swapped(one: int, other: int) -> Damage:
    def damage(files: list[Path]) -> None:
        first, second = chosen(files, one), chosen(files, other)
        of_first, of_second = first.read_bytes(), second.read_bytes()
        first.write_bytes(of_second)
        second.write_bytes(of_first)

    return damage


def chosen(files: list[Path], number: int) -> Path:
    return files[number % len(files)]


numbers = st.integers(0, 11)
# Damage to the headers of files and pages has the most consequences.
places = st.one_of(st.integers(0, 120), st.integers(0, 200_000))
damages = st.lists(
    st.one_of(
        st.builds(overwritten, numbers, places, st.binary(min_size=1, max_size=8)),
        st.builds(overwritten, numbers, places, st.sampled_from([bytes(5000), b"\xa5" * 5000])),
        st.builds(reworded, numbers, st.sampled_from(WORDS)),
        st.builds(cut, numbers, places),
        st.builds(deleted, numbers),
        st.builds(swapped, numbers, numbers),
    ),
    min_size=1,
    max_size=3,
)


@contextmanager
def new_folder(parent: Path) -> Iterator[Path]:
    # A new path each time: another example may have left connections open on the old one.
    with TemporaryDirectory(dir=parent) as name:
        yield Path(name) / "store"


def opened(folder: Path) -> "closing[Store]":
    return closing(open_store(folder, 64 * MIB, SystemClock()))


def save_all(store: Store) -> None:
    store.save_namespaces(("system", "other"))
    store.save_listing("system", LISTING)
    for saved, content in CONTENTS.items():
        store.save(saved, content)
    store.save_records({invoice("seen"): SEEN})


def found(store: Store) -> dict[str, object]:
    """Return what the store finds, by name."""
    loads: dict[str, object] = {
        "namespaces": store.namespaces() or None,
        "listing": store.listing("system"),
        "seen": store.record(invoice("seen")),
    }
    for saved, content in CONTENTS.items():
        assert content.record.content is not None
        loads[f"record {saved.name}"] = store.record(saved)
        loads[f"pdf {saved.name}"] = store.pdf(content.record.content)
    return {name: value for name, value in loads.items() if value is not None}


def do_damage(folder: Path, damages: list[Damage], spared: str = "") -> None:
    for damage in damages:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        damage([path for path in files if not spared or not path.name.endswith(spared)])


def keeps_all(folder: Path) -> bool:
    with opened(folder) as store:
        save_all(store)
        at_once = found(store)
    with opened(folder) as store:
        assert at_once.items() <= SAVED.items()
        return at_once == found(store) == SAVED


def check_that_everything_can_be_saved(folder: Path) -> None:
    """Check that everything can be saved: damage found late loses values once per cache at most."""
    assert any(keeps_all(folder) for _ in range(1 + len(("pdf", "meta"))))


any_damage = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@any_damage
@given(damages, st.booleans())
@example([reworded(0, words) for words in WORDS], True)
def test_values_are_exact_or_misses_after_damage_between_mounts(
    tmp_path: Path, damages: list[Damage], is_read_first: bool
) -> None:
    with new_folder(tmp_path) as folder:
        with opened(folder) as store:
            save_all(store)
        do_damage(folder, damages)
        if is_read_first:
            with opened(folder) as store:
                assert found(store).items() <= SAVED.items()
        check_that_everything_can_be_saved(folder)


@any_damage
@given(damages, st.booleans())
def test_values_are_exact_or_misses_after_damage_in_use(
    tmp_path: Path, damages: list[Damage], is_read_first: bool
) -> None:
    with new_folder(tmp_path) as folder:
        with opened(folder) as store:
            save_all(store)
            # SQLite maps -shm: writing to it would write into the memory of the process.
            do_damage(folder, damages, spared="-shm")
            if is_read_first:
                assert found(store).items() <= SAVED.items()
            save_all(store)
            assert found(store).items() <= SAVED.items()
        check_that_everything_can_be_saved(folder)
