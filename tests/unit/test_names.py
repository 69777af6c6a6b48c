"""Names of invoices and files: reversible, unique and never too long."""

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


def hash_digits(name: str) -> str:
    return hashlib.sha256(utf8(name)).hexdigest()[:10]


@st.composite
def relatives(draw: st.DrawFn) -> tuple[str, str]:
    """Draw a name and another that is derived from it, where a collision is most likely."""
    name = draw(invoice_names)
    stem = file_name(name).removesuffix(SUFFIX)
    relative = draw(
        st.sampled_from(
            [
                stem,
                stem + SUFFIX,
                stem.replace("~", "%7E"),
                stem.replace("%7E", "~"),
                f"{name}~{hash_digits(name)}",
                f"{stem[:240]}~{hash_digits(name)}",
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
def test_a_file_name_is_valid_and_short_enough(name: str) -> None:
    filename = file_name(name)

    assert filename.endswith(SUFFIX)
    assert len(filename.encode("utf-8")) <= NAME_MAX_BYTES
    assert not re.search("[/\x00-\x1f\x7f-\x9f]", filename)
    assert filename not in (".", "..")


@unhurried
@given(invoice_names)
def test_a_file_name_is_decoded_unless_it_was_cut(name: str) -> None:
    filename = file_name(name)

    if len(filename.encode()) < 248 or not CUT.fullmatch(filename):
        assert invoice_name(filename) == name
    else:
        assert invoice_name(filename) is None
        assert filename.endswith(f"~{hash_digits(name)}.pdf")


@unhurried
@given(
    st.one_of(invoice_names, invoice_names.map(file_name), st.text(characters).map("{}.pdf".format))
)
def test_a_file_name_is_decoded_only_to_the_name_that_encodes_to_it(filename: str) -> None:
    name = invoice_name(filename)

    assert name is None or file_name(name) == filename


@unhurried
@given(relatives())
@example(("x" * 300, "x" * 240 + "~" + hash_digits("x" * 300)))
@example(("a" * 240 + "~0123456789", "a" * 240 + "%7E0123456789"))
@example(("a/b", "a%2Fb"))
def test_two_related_names_have_different_file_names(pair: tuple[str, str]) -> None:
    one, other = pair
    assume(one != other)

    assert file_name(one) != file_name(other)


# Encoding


@pytest.mark.parametrize(
    ("name", "filename"),
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
def test_only_characters_invalid_in_file_names_are_encoded(name: str, filename: str) -> None:
    assert file_name(name) == filename
    assert invoice_name(filename) == name


@pytest.mark.parametrize(
    "filename",
    [
        ".pdf",
        "a.PDF",
        "a%2fb.pdf",  # file names have upper-case hex digits
        "a%61.pdf",  # ordinary characters are not encoded
        "a%2.pdf",
        "%FF.pdf",
        "a/b.pdf",
        "\udcff.pdf",
        "x" * 252 + ".pdf",
        "x" * 240 + "~0123456789.pdf",
    ],
)
def test_a_file_name_that_no_name_encodes_to_is_no_invoice(filename: str) -> None:
    assert invoice_name(filename) is None


# Cutting


@pytest.mark.parametrize("character", ["x", "é", "€", "😀", "/", "\ud800"])
@pytest.mark.parametrize("surplus_bytes", range(5))
def test_a_long_name_is_cut_between_characters_to_nearly_the_limit(
    character: str, surplus_bytes: int
) -> None:
    name = "y" * surplus_bytes + character * 300

    filename = file_name(name)

    kept, _, end = filename.rpartition("~")
    assert end == f"{hash_digits(name)}.pdf"
    assert NAME_MAX_BYTES - 3 <= len(filename.encode("utf-8")) <= NAME_MAX_BYTES
    assert file_name(name + "z").rpartition("~")[0] == kept


@pytest.mark.parametrize("character", ["x", "é", "😀"])
def test_a_name_is_cut_only_if_it_is_too_long(character: str) -> None:
    room = NAME_MAX_BYTES - len(SUFFIX)
    fits = "y" * (room % len(utf8(character))) + character * (room // len(utf8(character)))

    assert len(utf8(fits)) == room
    assert file_name(fits) == fits + SUFFIX
    assert file_name("y" + fits).endswith(f"~{hash_digits('y' + fits)}.pdf")


@pytest.mark.parametrize(
    ("longest", "character"),
    [("x" * 255, "x"), ("\u00e9" * 127 + "x", "\u00e9"), ("\udcff" * 255, "\udcff")],
    ids=["ascii", "two bytes", "not UTF-8"],
)
def test_a_name_of_more_than_255_bytes_is_too_long(longest: str, character: str) -> None:
    assert not is_too_long(longest)
    assert is_too_long(longest + character)


# Unlisted names


@unhurried
@given(invoice_names)
def test_no_request_is_made_for_an_unlisted_hidden_file(name: str) -> None:
    assert not can_be_unlisted_invoice("." + file_name(name))
    assert not can_be_unlisted_invoice(file_name("." + name))


@unhurried
@given(st.text(characters))
def test_no_request_is_made_for_a_name_that_no_invoice_can_have(filename: str) -> None:
    if invoice_name(filename) is None:
        assert not can_be_unlisted_invoice(filename)


@pytest.mark.parametrize("filename", ["invoice-acme-2026-08.pdf", "a%2Fb.pdf", "a.b.pdf", "ä.pdf"])
def test_a_possible_invoice_name_may_be_requested(filename: str) -> None:
    assert can_be_unlisted_invoice(filename)


# Namespaces


@pytest.mark.parametrize("name", ["system", "a", "0", "a-b", "a--b", "ves-io-shared", "x" * 63])
def test_a_dns_label_can_be_a_namespace(name: str) -> None:
    assert can_be_namespace(name)
    assert directory_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "System",
        "a_b",
        "a b",
        "-a",
        "a-",
        "a.b",
        "a/b",
        "a\n",
        "ä",
        "٣",
        "x" * 64,
    ],
)
def test_a_name_that_is_not_a_dns_label_cannot_be_a_namespace(name: str) -> None:
    assert not can_be_namespace(name)


@unhurried
@given(st.text(characters, max_size=70))
def test_a_namespace_has_up_to_63_letters_digits_and_inner_dashes(name: str) -> None:
    allowed = "abcdefghijklmnopqrstuvwxyz0123456789"
    is_label = (
        1 <= len(name) <= 63
        and all(character in allowed + "-" for character in name)
        and name[0] in allowed
        and name[-1] in allowed
    )

    assert can_be_namespace(name) is is_label


@unhurried
@given(invoice_names)
def test_a_directory_name_is_valid_and_short_enough(namespace: str) -> None:
    directory = directory_name(namespace)

    if directory is not None:
        assert 0 < len(directory.encode("utf-8")) <= NAME_MAX_BYTES
        assert not re.search("[/\x00-\x1f\x7f-\x9f]", directory)
        assert directory not in (".", "..")


@unhurried
@given(short_names, short_names)
def test_two_namespaces_have_different_directories(one: str, other: str) -> None:
    assume(one != other)
    directory = directory_name(one)

    assert directory is None or directory != directory_name(other)


@pytest.mark.parametrize("namespace", ["", ".", "..", "x" * 256, "/" * 86])
def test_an_unusable_namespace_has_no_directory_name(namespace: str) -> None:
    assert directory_name(namespace) is None


def test_every_other_namespace_has_a_directory_name() -> None:
    assert directory_name("a/b") == "a%2Fb"
    assert directory_name("...") == "..."
    assert directory_name("x" * 255) == "x" * 255


@pytest.mark.parametrize("character", ["z", "/", "~", "é", "0"])
def test_encoding_a_name_takes_linear_time(character: str) -> None:
    """The time was quadratic, and all other opens waited for minutes.

    With quadratic time this test would exceed its time limit.
    """
    name = character * 1_000_000

    assert len(file_name(name).encode()) <= 255
