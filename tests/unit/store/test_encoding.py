"""How listings and records are encoded: what is decoded again, and what is rejected."""

import hashlib
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from invoicefs.model import Invoice, Listing, Record, StoredContent
from invoicefs.store.encoding import (
    listing_fields,
    listing_from,
    namespaces_from,
    record_fields,
    record_from,
    sealed,
    unsealed,
)

T = TypeVar("T")

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

KEY = "record/system/a.pdf"

keys = st.text(max_size=8)
texts = st.text(max_size=8)
numbers = st.one_of(st.integers(), st.integers(2**62, 2**70), st.just(10**30))


def nested(leaves: st.SearchStrategy[T]) -> st.SearchStrategy[object]:
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=7), st.dictionaries(texts, inner, max_size=3)
        ),
        max_leaves=12,
    )


values = nested(st.one_of(st.none(), st.booleans(), numbers, st.floats(allow_nan=False), texts))
# Values shaped like stored ones, so that only a few fields are wrong.
fields = st.one_of(numbers, texts, st.booleans(), st.none())
shaped = st.one_of(
    values,
    st.lists(fields, max_size=6),
    st.tuples(numbers, numbers, texts, texts, numbers).map(list),
    st.tuples(fields, st.fixed_dictionaries({"earlier": values, "not_found": fields})).map(list),
    st.lists(st.one_of(st.lists(texts, min_size=7, max_size=7), st.lists(fields, max_size=8))),
    st.lists(st.tuples(texts, st.booleans(), texts, texts, texts, texts, texts).map(list)),
)
contents = st.builds(StoredContent, st.integers(1, 10**30), texts, texts, numbers)
listed = st.builds(
    Invoice, st.just("system"), texts, st.booleans(), texts, texts, texts, texts, texts
)


def sealed_text(key: str, text: str) -> str:
    """Return a text with a valid seal, as if it were JSON."""
    return hashlib.sha256(f"{key}\n{text}".encode()).hexdigest() + text


# The seal


@unhurried
@given(keys, values)
def test_sealed_value_is_returned_under_its_key(key: str, value: object) -> None:
    assert unsealed(key, sealed(key, value)) == value


@unhurried
@given(keys, keys, values)
@example("", "\n", 1)
@example("a", "a\n", 1)
def test_sealed_value_is_not_returned_under_another_key(
    one: str, other: str, value: object
) -> None:
    assert one == other or unsealed(other, sealed(one, value)) is None


@unhurried
@given(values, st.integers(0), st.characters())
def test_one_changed_character_breaks_the_seal(value: object, place: int, character: str) -> None:
    whole = sealed(KEY, value)
    place %= len(whole)
    corrupt = whole[:place] + character + whole[place + 1 :]

    assert corrupt == whole or unsealed(KEY, corrupt) is None


@unhurried
@given(values, st.integers(0), st.characters())
def test_truncated_or_extended_text_is_not_read(value: object, length: int, more: str) -> None:
    whole = sealed(KEY, value)

    assert unsealed(KEY, whole[: length % len(whole)]) is None
    assert unsealed(KEY, whole + more) is None


@unhurried
@given(st.one_of(st.text(st.characters()), st.binary(), st.integers(), st.floats(), st.none()))
@example("[1, 2]")
@example("5")
def test_unsealed_value_is_not_read(stored: object) -> None:
    assert unsealed(KEY, stored) is None


# Values


@unhurried
@given(shaped)
def test_any_value_decodes_to_names_of_namespaces(value: object) -> None:
    assert all(isinstance(name, str) for name in namespaces_from(value))


@unhurried
@given(shaped)
def test_any_value_decodes_to_a_usable_listing_or_none(value: object) -> None:
    listing = listing_from("system", value)

    assert (listing is not None) == isinstance(value, list)
    for invoice in listing.invoices if listing else ():
        assert (invoice.namespace, type(invoice.active)) == ("system", bool)
        assert invoice.inode > 0
        assert isinstance(invoice.natural_mtime_ns, int | None)


@unhurried
@given(shaped)
@example([1, 0, "", "", 1])
@example([1, -1, "", "", 1])
def test_any_value_decodes_to_a_valid_record_or_none(value: object) -> None:
    record = record_from(value)

    assert isinstance(record, Record | None)
    if record is not None:
        assert isinstance(record.mtime_ns, int | None)
    if record is not None and record.content is not None:
        assert isinstance(record.mtime_ns, int)
        assert record.content.size_bytes > 0
        assert isinstance(record.content.fetched_ns, int)


@unhurried
@given(st.lists(listed, max_size=5).map(Listing.of))
def test_listing_survives_encoding(listing: Listing) -> None:
    assert listing_from("system", unsealed(KEY, sealed(KEY, listing_fields(listing)))) == listing


@unhurried
@given(
    st.one_of(
        st.builds(Record, st.one_of(st.none(), numbers), not_found=texts),
        st.builds(Record, numbers, contents, st.lists(texts, max_size=3).map(tuple), texts),
    )
)
def test_record_survives_encoding(record: Record) -> None:
    assert record_from(unsealed(KEY, sealed(KEY, record_fields(record)))) == record


# Foreign values


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, "9" * 10_000, "NaN, 1", "\x00"])
def test_sealed_text_that_is_not_json_is_not_read(text: str) -> None:
    assert unsealed(KEY, sealed_text(KEY, text)) is None


@unhurried
@given(keys, st.text(st.characters(max_codepoint=127)))
def test_any_sealed_text_decodes_or_is_none(key: str, text: str) -> None:
    namespaces_from(unsealed(key, sealed_text(key, text)))
