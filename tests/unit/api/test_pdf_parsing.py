"""The PDF in a response is decoded, or the response is refused."""

import base64
import json
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from invoicefs.api.parsing import MAX_VALUES, parse_json
from invoicefs.api.pdf_parsing import parse_pdf, parse_pdf_json
from invoicefs.errors import TooLarge, UnusableResponse

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

LIMIT_BYTES = 1000
PDF = b"%PDF-1.7\n\xfb\xff\xbf\x00 all bits \xfe%%EOF\n"


def standard(pdf: bytes) -> str:
    return base64.b64encode(pdf).decode()


def url_safe(pdf: bytes) -> str:
    return base64.urlsafe_b64encode(pdf).decode()


ENCODINGS: list[Callable[[bytes], str]] = [
    standard,
    url_safe,
    lambda pdf: standard(pdf).rstrip("="),
    lambda pdf: url_safe(pdf).rstrip("="),
    lambda pdf: base64.encodebytes(pdf).decode(),
    lambda pdf: base64.encodebytes(pdf).decode().replace("\n", "\r\n"),
    lambda pdf: f" {standard(pdf)}\n",
]


@unhurried
@given(st.binary(), st.sampled_from(ENCODINGS))
def test_every_byte_of_a_pdf_is_decoded(content: bytes, encode: Callable[[bytes], str]) -> None:
    pdf = b"%PDF-" + content + b"%%EOF"

    assert parse_pdf({"pdf": encode(pdf)}, 10**6) == pdf


@pytest.mark.parametrize(
    "pdf",
    [
        b"%PDF-%%EOF",
        b"\xef\xbb\xbf%PDF-1.4\n%%EOF\n",
        b"x" * 1019 + b"%PDF-" + b"%%EOF" + b"x" * 1019,
        b"%PDF-" + b"x" * 5000 + b"%%EOF" + b"\0" * 1019,
    ],
)
def test_pdf_header_and_end_may_be_where_viewers_accept_them(pdf: bytes) -> None:
    assert parse_pdf({"pdf": standard(pdf)}, 10**6) == pdf


@pytest.mark.parametrize(
    "text",
    [
        "JVBERi0xLjcKM",  # one character more than whole bytes
        "JVBERi0x*LjcK",
        "JVBERi0x.LjcK",
        "JVBE=Ri0xLjcK",
        "JVBERi0xLjcK====JVBE",
        "data:application/pdf;base64,JVBERi0xLjcK",
        "JVBERi0xLjcKä",
        "JVBERi0xLjcK\x00",
        "JVBERi0xLjcK\ud800",
        "JVBERi0xLjc\u212a",  # KELVIN SIGN, whose lower() is an ASCII letter
        "<html>",
        "%PDF-1.7",
        "=",
        " ",
    ],
)
def test_invalid_base64_is_unusable(text: str) -> None:
    with pytest.raises(UnusableResponse):
        parse_pdf({"pdf": text}, LIMIT_BYTES)


@pytest.mark.parametrize(
    "content",
    [
        b"<html>Sign in</html>",
        b"{}",
        b"%PDF",
        b"%pdf-1.7",
        b" %PDF-1.7",
        b"\x00" * 20,
        b"PK\x03\x04",
        b"%PDF-1.4\n1 0 obj\n<<",
        b"%%EOF",
        b"x" * 1020 + b"%PDF-1.4\n%%EOF",
        b"%PDF-1.4\n%%EOF" + b"x" * 1020,
        b"%PDF-1.4\n%%EO",
    ],
)
def test_an_incomplete_pdf_is_unusable(content: bytes) -> None:
    with pytest.raises(UnusableResponse, match="not contain a whole PDF"):
        parse_pdf({"pdf": standard(content)}, 10**6)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"pdf": ""},
        {"pdf": None},
        {"pdf": 5},
        {"pdf": True},
        {"pdf": [standard(PDF)]},
        {"pdf": {"data": standard(PDF)}},
        {"PDF": standard(PDF)},
        {"message": "not ready"},
    ],
)
def test_a_response_without_a_pdf_is_unusable(answer: object) -> None:
    with pytest.raises(UnusableResponse):
        parse_pdf(answer, LIMIT_BYTES)


def test_a_pdf_may_be_as_large_as_the_limit_and_no_larger() -> None:
    pdf = PDF.ljust(LIMIT_BYTES, b"\n")

    assert parse_pdf({"pdf": standard(pdf)}, LIMIT_BYTES) == pdf
    with pytest.raises(TooLarge, match="max-pdf-size"):
        parse_pdf({"pdf": standard(pdf + b"x")}, LIMIT_BYTES)


# Bodies

TEXT = base64.b64encode(PDF)
blanks = st.text(" \t\r\n\f\v\u00a0", max_size=2).map(str.encode)
pieces = st.one_of(
    blanks,
    st.sampled_from(
        [
            *(b"{", b"}", b":", b",", b'"', b'"pdf"', b'"name"', b"\\", b"\\/", b"\\u0041"),
            *(TEXT, TEXT[:-1], TEXT + b"=", b"\xef\xbb\xbf", b"\0", b"\xff", b"[]", b"null"),
        ]
    ),
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Return a body of the usual form, with a few pieces inserted, replaced or removed."""
    body = [b"", b"{", b"", b'"pdf"', b"", b":", b"", b'"', TEXT, b'"', b"", b"}", b""]
    for _ in range(draw(st.integers(0, 3))):
        position = draw(st.integers(0, len(body)))
        body[position : position + draw(st.integers(0, 1))] = [draw(pieces)]
    return b"".join(body)


def outcome(parse: Callable[[bytes], object], body: bytes) -> object:
    """Return the PDF in a body, or the text of the error."""
    try:
        return parse_pdf(parse(body), LIMIT_BYTES)
    except (UnusableResponse, TooLarge) as error:
        return str(error)


@unhurried
@given(bodies())
@example(b'{"pdf": "%b"}' % TEXT)
@example(b'{"pdf": "%b", "pdf": "%b"}' % (TEXT, TEXT))
@example(b'{"pdf": "%b"}' % TEXT.replace(b"/", b"\\/"))
@example(b'{"pdf": "%b"}' % base64.b64encode(b"not a PDF"))
@example(b'{"pdf": "%b"}' % base64.b64encode(PDF.ljust(LIMIT_BYTES + 1, b"\n")))
@example(b'{"pdf": "%b"} {}' % TEXT)
@example(b'{"pdf": ""}')
@example(b'{"pdf": "}')
@example(json.dumps({"pdf": TEXT.decode()}).encode("utf-16"))
@example(json.dumps({"pdf": TEXT.decode()}).encode("utf-8-sig"))
def test_a_body_gives_what_the_general_parser_finds_in_it(body: bytes) -> None:
    expected = outcome(lambda body: parse_json(body, MAX_VALUES), body)

    assert outcome(parse_pdf_json, body) == expected


@pytest.mark.parametrize("body", [b'{"pdf":"%b"}', b' {\n "pdf" : "%b"\r\n}\n'])
def test_a_usual_body_is_decoded_without_the_general_parser(body: bytes) -> None:
    assert parse_pdf_json(bytearray(body % TEXT)) == PDF
