"""Names of invoices and files: reversible, never two on one path, never too long."""

import hashlib
import re

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from invoicefs.names import (
    NAME_MAX_BYTES,
    SUFFIX,
    can_be_namespace,
    can_be_unlisted_invoice,
    directory_name,
    file_name,
    invoice_name,
    is_too_long,
)

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

AWKWARD = "/%~.-_ \x00\x01\n\r\t\x1f\x7f\x80\x9f\xa0\ud800\udc80\udfff\ufeff\u2028aFf092é€😀"
CUT = re.compile(r".*~[0-9a-f]{10}\.pdf", re.DOTALL)

characters = st.one_of(st.sampled_from(AWKWARD), st.characters())
short_names = st.text(characters, min_size=1, max_size=30)
long_names = st.builds(
    lambda repeated, times, rest: repeated * times + rest,
    st.text(characters, min_size=1, max_size=4),
    st.integers(50, 260),
    st.text(characters, max_size=15),
)
invoice_names = st.one_of(short_names, long_names)


def utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def digits_of(name: str) -> str:
    return hashlib.sha256(utf8(name)).hexdigest()[:10]


@st.composite
def relatives(draw: st.DrawFn) -> tuple[str, str]:
    """A name, and one that is made from it or from its path, where a clash is likeliest."""
    name = draw(invoice_names)
    stem = file_name(name).removesuffix(SUFFIX)
    relative = draw(
        st.sampled_from(
            [
                stem,
                stem + SUFFIX,
                stem.replace("~", "%7E"),
                stem.replace("%7E", "~"),
                f"{name}~{digits_of(name)}",
                f"{stem[:240]}~{digits_of(name)}",
                name + name[-1],
                name[:-1],
                name.replace("/", "%2F"),
                name.lower(),
            ]
        )
    )
    return name, relative


# Every file name


@unhurried
@given(invoice_names)
def test_a_file_name_fits_and_holds_nothing_that_a_path_cannot(name: str) -> None:
    called = file_name(name)

    assert called.endswith(SUFFIX)
    assert len(called.encode("utf-8")) <= NAME_MAX_BYTES
    assert not re.search("[/\x00-\x1f\x7f-\x9f]", called)
    assert called not in (".", "..")


@unhurried
@given(invoice_names)
def test_a_name_comes_back_from_its_file_name_unless_it_was_cut(name: str) -> None:
    called = file_name(name)

    if len(called.encode()) < 248 or not CUT.fullmatch(called):
        assert invoice_name(called) == name
    else:
        assert invoice_name(called) is None
        assert called.endswith(f"~{digits_of(name)}.pdf")


@unhurried
@given(
    st.one_of(invoice_names, invoice_names.map(file_name), st.text(characters).map("{}.pdf".format))
)
def test_a_file_name_stands_for_the_one_name_that_maps_to_it_or_for_none(called: str) -> None:
    name = invoice_name(called)

    assert name is None or file_name(name) == called


@unhurried
@given(relatives())
@example(("x" * 300, "x" * 240 + "~" + digits_of("x" * 300)))
@example(("a" * 240 + "~0123456789", "a" * 240 + "%7E0123456789"))
@example(("a/b", "a%2Fb"))
def test_two_related_names_never_share_a_path(pair: tuple[str, str]) -> None:
    one, other = pair
    assume(one != other)

    assert file_name(one) != file_name(other)


@unhurried
@given(invoice_names, invoice_names)
def test_two_names_never_share_a_path(one: str, other: str) -> None:
    assume(one != other)

    assert file_name(one) != file_name(other)


# Encoding


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("invoice-acme-2026-08", "invoice-acme-2026-08.pdf"),
        ("Rechnung ä €😀", "Rechnung ä €😀.pdf"),
        ("a/b", "a%2Fb.pdf"),
        ("../../etc/passwd", "..%2F..%2Fetc%2Fpasswd.pdf"),
        ("100%", "100%25.pdf"),
        ("%2F", "%252F.pdf"),
        ("a\x00b", "a%00b.pdf"),
        ("a\nb\x7f", "a%0Ab%7F.pdf"),
        ("\x85", "%C2%85.pdf"),
        ("\ud800", "%ED%A0%80.pdf"),
        ("\ud83d\ude00", "%ED%A0%BD%ED%B8%80.pdf"),
        ("a.pdf", "a.pdf.pdf"),
        (".", "..pdf"),
        ("..", "...pdf"),
        ("short~0123456789", "short~0123456789.pdf"),
    ],
)
def test_only_what_a_file_name_cannot_hold_is_encoded(name: str, called: str) -> None:
    assert file_name(name) == called
    assert invoice_name(called) == name


@pytest.mark.parametrize(
    "called",
    [
        "",
        ".pdf",
        "a",
        "a.PDF",
        "a.pdf ",
        "a%2fb.pdf",  # the digits of file names are in upper case
        "a%61.pdf",  # nothing that can stand for itself is encoded
        "a%2.pdf",
        "100%.pdf",
        "%FF.pdf",
        "a/b.pdf",
        "a\nb.pdf",
        "\udcff.pdf",
        "x" * 252 + ".pdf",
        "x" * 240 + "~0123456789.pdf",
    ],
)
def test_what_no_name_maps_to_stands_for_no_invoice(called: str) -> None:
    assert invoice_name(called) is None


# Cutting


@pytest.mark.parametrize("character", ["x", "é", "€", "😀", "/", "\ud800"])
@pytest.mark.parametrize("surplus_bytes", range(5))
def test_a_long_name_is_cut_between_characters_to_nearly_the_limit(
    character: str, surplus_bytes: int
) -> None:
    name = "y" * surplus_bytes + character * 300

    called = file_name(name)

    kept, _, end = called.rpartition("~")
    assert end == f"{digits_of(name)}.pdf"
    assert NAME_MAX_BYTES - 3 <= len(called.encode("utf-8")) <= NAME_MAX_BYTES
    assert file_name(name + "z").rpartition("~")[0] == kept


@pytest.mark.parametrize("character", ["x", "é", "😀"])
def test_a_name_is_cut_only_where_it_would_not_fit(character: str) -> None:
    room = NAME_MAX_BYTES - len(SUFFIX)
    fits = "y" * (room % len(utf8(character))) + character * (room // len(utf8(character)))

    assert len(utf8(fits)) == room
    assert file_name(fits) == fits + SUFFIX
    assert file_name("y" + fits).endswith(f"~{digits_of('y' + fits)}.pdf")


def test_a_name_that_looks_as_if_it_had_been_cut_has_a_path_of_its_own() -> None:
    long = "x" * 300
    impostor = file_name(long).removesuffix(SUFFIX)

    called = file_name(impostor)

    assert called != file_name(long)
    assert not CUT.fullmatch(called) or called.endswith(f"~{digits_of(impostor)}.pdf")


def test_long_names_with_one_beginning_have_different_paths() -> None:
    called = {file_name("x" * 300 + str(number)) for number in range(100)}

    assert len(called) == 100


@pytest.mark.parametrize(
    ("longest", "character"),
    [("x" * 255, "x"), ("\u00e9" * 127 + "x", "\u00e9"), ("\udcff" * 255, "\udcff")],
    ids=["ascii", "two bytes each", "no UTF-8"],
)
def test_a_name_is_too_long_beyond_255_bytes_as_the_kernel_has_them(
    longest: str, character: str
) -> None:
    assert not is_too_long(longest)
    assert is_too_long(longest + character)


# Names that nothing lists


@unhurried
@given(invoice_names)
def test_a_hidden_file_is_never_asked_for_unlisted(name: str) -> None:
    assert not can_be_unlisted_invoice("." + file_name(name))
    assert not can_be_unlisted_invoice(file_name("." + name))


@unhurried
@given(st.text(characters))
def test_what_no_invoice_can_be_called_is_never_asked_for_unlisted(called: str) -> None:
    if invoice_name(called) is None:
        assert not can_be_unlisted_invoice(called)


@pytest.mark.parametrize(
    "called",
    [
        ".Trash",
        ".Trash-1000",
        ".hidden",
        ".hidden.pdf",
        ".directory",
        ".xdg-volume-info",
        "._invoice.pdf",
        "autorun.inf",
        "Thumbs.db",
        "desktop.ini",
        "invoice",
        "invoice.pdf.part",
        ".pdf",
        "..pdf",
        "x" * 240 + "~0123456789.pdf",
    ],
)
def test_what_desktops_probe_for_is_not_asked_for(called: str) -> None:
    assert not can_be_unlisted_invoice(called)


@pytest.mark.parametrize("called", ["invoice-acme-2026-08.pdf", "a%2Fb.pdf", "a.b.pdf", "ä.pdf"])
def test_a_possible_invoice_may_be_asked_for(called: str) -> None:
    assert can_be_unlisted_invoice(called)


# Namespaces


@pytest.mark.parametrize("name", ["system", "a", "0", "a-b", "a--b", "ves-io-shared", "x" * 63])
def test_a_dns_label_can_be_a_namespace(name: str) -> None:
    assert can_be_namespace(name)
    assert directory_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".Trash",
        ".hidden",
        "autorun.inf",
        "System",
        "a_b",
        "a b",
        "-a",
        "a-",
        "-",
        "a.b",
        "a/b",
        "a\n",
        "ä",
        "٣",
        "x" * 64,
    ],
)
def test_what_is_no_dns_label_cannot_be_a_namespace(name: str) -> None:
    assert not can_be_namespace(name)


@unhurried
@given(st.text(characters, max_size=70))
def test_a_namespace_is_at_most_63_lower_case_letters_digits_and_inner_dashes(name: str) -> None:
    allowed = "abcdefghijklmnopqrstuvwxyz0123456789"
    is_label = (
        1 <= len(name) <= 63
        and all(each in allowed + "-" for each in name)
        and name[0] in allowed
        and name[-1] in allowed
    )

    assert can_be_namespace(name) is is_label


@unhurried
@given(invoice_names)
def test_a_directory_name_fits_and_holds_nothing_that_a_path_cannot(namespace: str) -> None:
    called = directory_name(namespace)

    if called is not None:
        assert 0 < len(called.encode("utf-8")) <= NAME_MAX_BYTES
        assert not re.search("[/\x00-\x1f\x7f-\x9f]", called)
        assert called not in (".", "..")


@unhurried
@given(short_names, short_names)
def test_two_namespaces_never_share_a_directory(one: str, other: str) -> None:
    assume(one != other)
    called = directory_name(one)

    assert called is None or called != directory_name(other)


@pytest.mark.parametrize("namespace", ["", ".", "..", "x" * 256, "/" * 86])
def test_a_namespace_that_no_directory_can_stand_for_has_no_directory_name(namespace: str) -> None:
    assert directory_name(namespace) is None


def test_a_namespace_of_any_other_name_has_a_directory() -> None:
    assert directory_name("a/b") == "a%2Fb"
    assert directory_name("...") == "..."
    assert directory_name("x" * 255) == "x" * 255


@pytest.mark.parametrize("character", ["z", "/", "~", "é", "0"])
def test_a_name_of_a_million_characters_costs_no_more_than_its_length(character: str) -> None:
    """The time grew with its square: every other open waited for minutes.

    It would not end before the time limit of a test.
    """
    name = character * 1_000_000

    assert len(file_name(name).encode()) <= 255
